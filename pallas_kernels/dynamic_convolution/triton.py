"""Dynamic convolution as one Pallas Triton kernel a direction.

The taps of a few neighbouring positions are a band matrix: row t holds its
softmaxed taps at columns t - (width-1)/2 to t + (width-1)/2. A program builds
the band of one head for one small tile in registers (a masked load that
reads logits at column - row, a softmax along the rows), and the sums over
taps become products of small matrices for the tensor cores, which cost far
fewer instructions than width multiply-adds and width shifted loads for every
element:

  out        = band values
  grad_band  = grad_out values^T, of which the band gives grad_logits
  grad_values = band^T grad_out

The backward tile is square and overlaps its neighbours by a window at each
side: both gradients come from one launch and nothing else is written.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from pallas_kernels import _asm, _compat
from pallas_kernels.dynamic_convolution import differentiable

_LOG2_E = 1.4426950408889634
_WIDEST = 33


@dataclasses.dataclass(frozen=True)
class Tiles:
  """Tile sizes.

  Attributes:
    rows: positions whose output a program of the forward pass computes; a
      power of two from 16.
    square: rows and columns of the band of the backward pass, a power of two
      from 32; square - 2 (width - 1) positions are a program's own.
    warps: warps of a program of the forward pass.
    backward_warps: warps of a program of the backward pass.
  """

  rows: int = 16
  square: int = 32
  warps: int = 1
  backward_warps: int = 1


def default_tiles(dtype, head_dim: int, width: int) -> Tiles:
  """Small tiles, as few warps as hold them in registers.

  Chosen by the count of compiled instructions for each output, which grows
  with tiles (more of a band is zeros) and with warps (more exchange).
  """
  rows = 16
  square = pl.next_power_of_2(rows + 2 * (width - 1))
  columns = pl.next_power_of_2(rows + width - 1)
  row_bytes = pl.next_power_of_2(head_dim) * jnp.dtype(dtype).itemsize
  # Products in float32 are three, of operands that are split in two.
  split = 2 if dtype == jnp.float32 else 1
  backward = max(split * square * row_bytes // 4096, square**2 // 2048)
  return Tiles(
    rows=rows,
    square=square,
    warps=min(max(1, columns * row_bytes // 8192), 8),
    backward_warps=min(max(1, backward), 8),
  )


@dataclasses.dataclass(frozen=True)
class _Static:
  tiles: Tiles
  interpret: bool


def dynamic_convolution(values, logits, *, segments, blocks, interpret):
  """See `api.dynamic_convolution`; `blocks` is a `Tiles` or None."""
  width = logits.shape[-1]
  for array in (values, logits):
    if array.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
      raise NotImplementedError(
        f"'triton' takes float32, bfloat16 and float16, not {array.dtype}"
      )
  if width > _WIDEST:
    raise NotImplementedError(
      f"'triton' takes widths to {_WIDEST}, not {width}: the band of wider "
      "ones does not fit a program's registers"
    )
  tiles = blocks or default_tiles(values.dtype, values.shape[-1], width)
  if tiles.square < 2 * width:
    raise NotImplementedError(
      f"a square of {tiles.square} is too small for width {width}"
    )
  if segments is not None:
    segments = segments.astype(jnp.int32)
  return _convolution(_Static(tiles, interpret), values, logits, segments)


def _forward(static, values, logits, segments):
  batch, length, heads, head_dim = values.shape
  width, rows = logits.shape[-1], static.tiles.rows
  kernel = functools.partial(
    _forward_kernel,
    rows=rows,
    columns=pl.next_power_of_2(rows + width - 1),
    segmented=segments is not None,
    interpret=static.interpret,
  )
  return _call(
    kernel,
    static,
    "dynamic_convolution_forward",
    (values, logits),
    segments,
    grid=(heads, pl.cdiv(length, rows), batch),
    outputs=(values,),
    warps=static.tiles.warps,
    flops=2 * values.size * width,
  )[0]


def _backward(static, values, logits, segments, grad_out):
  batch, length, heads, head_dim = values.shape
  width, square = logits.shape[-1], static.tiles.square
  step = square - 2 * (width - 1)
  kernel = functools.partial(
    _backward_kernel,
    square=square,
    step=step,
    segmented=segments is not None,
    interpret=static.interpret,
  )
  return _call(
    kernel,
    static,
    "dynamic_convolution_backward",
    (values, logits, grad_out),
    segments,
    grid=(heads, pl.cdiv(length, step), batch),
    outputs=(values, logits),
    warps=static.tiles.backward_warps,
    flops=4 * values.size * width,
  )


_convolution = differentiable.differentiable(_forward, _backward)


def _call(
  kernel, static, name, arrays, segments, *, grid, outputs, warps, flops
):
  """A launch over (heads, tiles, batch); each program sees a head's row."""

  def row(array):
    shape = (None, array.shape[1], None, array.shape[3])
    return pl.BlockSpec(shape, lambda h, i, b: (b, 0, h, 0))

  specs = [row(x) for x in arrays]
  if segments is not None:
    arrays = (*arrays, segments)
    specs.append(
      pl.BlockSpec((None, segments.shape[1]), lambda h, i, b: (b, 0))
    )
  moved = sum(x.size * x.dtype.itemsize for x in (*arrays, *outputs))
  return pl.pallas_call(
    kernel,
    grid=grid,
    in_specs=specs,
    out_specs=[row(x) for x in outputs],
    out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outputs],
    compiler_params=_compat.triton_params(num_warps=warps, num_stages=1),
    cost_estimate=pl.CostEstimate(
      flops=flops, transcendentals=arrays[1].size, bytes_accessed=moved
    ),
    interpret=static.interpret,
    name=name,
  )(*arrays)


def _forward_kernel(
  values_ref, logits_ref, *refs, rows, columns, segmented, interpret
):
  """Row i is position first + i, column j position first - width // 2 + j."""
  segments_ref, out_ref = refs if segmented else (None, *refs)
  length, width = values_ref.shape[0], logits_ref.shape[1]
  row, column = jnp.arange(rows), jnp.arange(columns)
  first = pl.program_id(1) * rows
  place, other = first + row, first - width // 2 + column
  own = _segments(segments_ref, place, place < length)
  seen = (other >= 0) & (other < length) & (column < rows + width - 1)
  others = _segments(segments_ref, other, seen)
  tap = column[None, :] - row[:, None]
  taps = _taps(logits_ref, place, tap, own > 0, interpret)
  if segmented:
    taps = jnp.where(own[:, None] == others[None, :], taps, 0.0)
  values = _load(values_ref, other, others > 0)
  out = _dot(taps.astype(values.dtype), values, interpret)
  if segmented:
    out = jnp.where((own > 0)[:, None], out, 0.0)
  _store(out_ref, place, place < length, out)


def _backward_kernel(
  values_ref, logits_ref, grad_out_ref, *refs, square, step, segmented,
  interpret,
):  # fmt: skip
  """Both gradients of positions [first, first + step).

  Those of values need the taps of half a window more to each side (the rows
  of the band), and these taps reach another half (its columns). Where a mask
  can be told from places in the tile alone it is, so that what lies outside
  is left out of the program.
  """
  segments_ref, *refs = refs if segmented else (None, *refs)
  grad_values_ref, grad_logits_ref = refs
  length, width = values_ref.shape[0], logits_ref.shape[1]
  half, index = width // 2, jnp.arange(square)
  first = pl.program_id(1) * step
  place, other = first - half + index, first - 2 * half + index
  seen = (index < step + 2 * half) & (place >= 0) & (place < length)
  own = _segments(segments_ref, place, seen)
  seen = (index >= half) & (index < step + 3 * half)
  others = _segments(
    segments_ref, other, seen & (other >= 0) & (other < length)
  )
  tap = index[None, :] - index[:, None]
  taps = _taps(logits_ref, place, tap, own > 0, interpret)
  values = _load(values_ref, other, others > 0)
  grad_out = _load(grad_out_ref, place, own > 0)
  grad_taps = _dot(grad_out, values.T, interpret)
  shown = taps
  if segmented:
    same = own[:, None] == others[None, :]
    shown = jnp.where(same, taps, 0.0)
    grad_taps = jnp.where(same, grad_taps, 0.0)
  grad_values = _dot(shown.astype(grad_out.dtype).T, grad_out, interpret)
  mine = (index >= 2 * half) & (index < step + 2 * half) & (other < length)
  _store(grad_values_ref, other, mine, grad_values)
  terms = taps * grad_taps
  mean = jnp.sum(terms, axis=1)[:, None]
  grad_logits = _asm.fma(taps, -mean, terms, interpret=interpret)
  mine = (index >= half) & (index < step + half) & (place < length)
  plt.store(
    _tap_of(grad_logits_ref, place, tap),
    grad_logits.astype(grad_logits_ref.dtype),
    mask=mine[:, None] & (tap >= 0) & (tap < width),
  )


def _segments(segments_ref, place, seen):
  """Ids at `place` where seen, else 0; all are 1 where there are no ids."""
  if segments_ref is None:
    return seen.astype(jnp.int32)
  return plt.load(segments_ref.at[place], mask=seen, other=0)


def _load(ref, place, wanted):
  """[len(place), head_dim to a power of two], 0 where not wanted."""
  column = jnp.arange(pl.next_power_of_2(ref.shape[1]))
  mask = wanted[:, None] & (column < ref.shape[1])[None, :]
  return plt.load(ref.at[place[:, None], column[None, :]], mask=mask, other=0.0)


def _store(ref, place, wanted, rows):
  column = jnp.arange(rows.shape[1])
  mask = wanted[:, None] & (column < ref.shape[1])[None, :]
  at = ref.at[place[:, None], column[None, :]]
  plt.store(at, rows.astype(ref.dtype), mask=mask)


def _tap_of(ref, place, tap):
  return ref.at[jnp.broadcast_to(place[:, None], tap.shape), tap]


def _taps(logits_ref, place, tap, real, interpret):
  """The band [rows, columns] of softmaxed taps, float32.

  Args:
    logits_ref: [length, width].
    place: [rows] int32.
    tap: [rows, columns] int32, which tap a column is to a row.
    real: [rows] bool; other rows get uniform taps.
    interpret: whether Pallas' interpreter runs this.
  """
  band = (tap >= 0) & (tap < logits_ref.shape[1])
  mask = band & real[:, None]
  # Finite: a row of nothing else stays free of NaN.
  low = max(-1e30, float(jnp.finfo(logits_ref.dtype).min))
  logits = plt.load(_tap_of(logits_ref, place, tap), mask=mask, other=low)
  logits = logits.astype(jnp.float32)
  if not interpret:
    logits = _for_tensor_cores(logits)
  # Subtracted before the factor, not in one fma with it: the rounding of
  # highest * log2(e) would be an exponent where logits are huge.
  logits = (logits - jnp.max(logits, axis=1)[:, None]) * _LOG2_E
  taps = jnp.where(band, _asm.exp2(logits, interpret=interpret), 0.0)
  return taps * (1.0 / jnp.sum(taps, axis=1))[:, None]


def _dot(a, b, interpret):
  """a b in float32; the tensor cores' three products keep float32's bits."""
  precision = None
  if a.dtype == jnp.float32:
    precision = lax.DotAlgorithmPreset.TF32_TF32_F32_X3
    precision = lax.Precision.HIGHEST if interpret else precision
  return jnp.dot(a, b, precision=precision, preferred_element_type=jnp.float32)


def _for_tensor_cores(x):
  """x itself, float32, laid out over the lanes as the tensor cores do.

  As loaded, each row lies across a warp, and a maximum or sum of a row is
  five exchanges; as a product's result lies, two. No operation of Triton's
  asks for a layout, but the inputs of one instruction must have the same: a
  product of zeros is given to an instruction that ignores it.
  """
  rows, columns = x.shape
  like = jnp.dot(
    jnp.zeros((rows, 16), jnp.bfloat16),
    jnp.zeros((16, columns), jnp.bfloat16),
    preferred_element_type=jnp.float32,
  )
  return plt.elementwise_inline_asm(
    "mov.b32 $0, $1;",
    args=[x, like],
    constraints="=f,f,f",
    pack=1,
    result_shape_dtypes=[jax.ShapeDtypeStruct(x.shape, x.dtype)],
  )[0]
