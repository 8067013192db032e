"""Arrays in the form that the kernels take, blocks, and the launches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels.dynamic_convolution import differentiable
from pallas_kernels.dynamic_convolution.mosaic_tpu import kernels
from pallas_kernels.dynamic_convolution.mosaic_tpu.band import (
  HALO,
  LANES,
  OWN,
)

_WIDEST = 2 * HALO + 1


@dataclasses.dataclass(frozen=True)
class Tiles:
  """Tile sizes.

  Attributes:
    windows: at most so many windows of 96 positions make a block; rows that
      fit into one block are not cut.
    vmem_bytes: at most so much memory near the cores, by which blocks of many
      channels are shortened.
  """

  windows: int = 6
  vmem_bytes: int = 12 * 2**20


@dataclasses.dataclass(frozen=True)
class _Static:
  tiles: Tiles
  interpret: bool


def dynamic_convolution(values, logits, *, segments, blocks, interpret):
  """See `api.dynamic_convolution`; `blocks` is a `Tiles` or None."""
  for array in (values, logits):
    if array.dtype not in (jnp.float32, jnp.bfloat16):
      raise NotImplementedError(
        f"'mosaic_tpu' takes float32 and bfloat16, which a TPU computes with, "
        f"not {array.dtype}"
      )
  if logits.shape[-1] > _WIDEST:
    raise NotImplementedError(
      f"'mosaic_tpu' takes widths to {_WIDEST}, not {logits.shape[-1]}: wider "
      "ones reach past the neighbours that a block is given"
    )
  head_dim = values.shape[-1]
  size = _head_size(head_dim)
  if segments is not None:
    segments = segments.astype(jnp.int32)
  static = _Static(blocks or Tiles(), interpret)
  if size == head_dim:
    return _convolution(static, values, logits, segments)
  ends = [(0, 0)] * 3 + [(0, size - head_dim)]
  out = _convolution(static, jnp.pad(values, ends), logits, segments)
  return out[..., :head_dim]


def _head_size(head_dim):
  """The least that divides LANES or is a multiple of it."""
  if head_dim > LANES:
    return LANES * pl.cdiv(head_dim, LANES)
  return pl.next_power_of_2(head_dim)


def _plan(static, values, logits, segments):
  batch, length, heads, head_dim = values.shape
  row_bytes = heads * head_dim * values.dtype.itemsize
  # Three blocks in two copies each, two with neighbours around them, and taps.
  row_bytes = 8 * row_bytes + 6 * 4 * LANES * -(
    -heads * logits.shape[3] // LANES
  )
  windows = min(
    static.tiles.windows, static.tiles.vmem_bytes // row_bytes // OWN
  )
  if windows == 0:
    raise NotImplementedError(
      f"{heads} heads of {head_dim} do not fit 'mosaic_tpu': a window of {OWN} "
      f"positions takes more than {static.tiles.vmem_bytes} bytes"
    )
  return kernels.Plan(
    length=length,
    rows=min(length, windows * OWN),
    heads=heads,
    head_dim=head_dim,
    width=logits.shape[3],
    segmented=segments is not None,
  )


def _forward(static, values, logits, segments):
  plan = _plan(static, values, logits, segments)
  arguments, specs = _segments(segments, plan)
  for array, around in (
    (_flat(values), True),
    (_taps_flat(logits, plan), False),
  ):
    more, more_specs = _with_neighbours(array, plan, around)
    arguments, specs = arguments + more, specs + more_specs
  out = _flat(values)
  [out] = _call(
    kernels.forward, "dynamic_convolution_forward", static, plan,
    arguments, specs, [out], [values.dtype],
  )  # fmt: skip
  return out.reshape(values.shape)


def _backward(static, values, logits, segments, grad_out):
  plan = _plan(static, values, logits, segments)
  arguments, specs = _segments(segments, plan)
  values, grads = _flat(values), _flat(grad_out)
  taps = _taps_flat(logits, plan)
  for array in (values, grads, taps):
    more, more_specs = _with_neighbours(array, plan, True)
    arguments, specs = arguments + more, specs + more_specs
  grad_values, grad_taps = _call(
    kernels.backward, "dynamic_convolution_backward", static, plan,
    arguments, specs, [values, taps], [values.dtype, values.dtype],
  )  # fmt: skip
  return (
    grad_values.reshape(grad_out.shape),
    _taps_back(grad_taps, logits.shape, plan),
  )


_convolution = differentiable.differentiable(_forward, _backward)


def _call(kernel, name, static, plan, arguments, specs, outputs, scratch_types):
  """Launches a kernel over (batch, blocks of a row)."""
  batch = outputs[0].shape[0]
  block = lambda b, i: (b, i, 0)
  around = 2 * HALO + OWN * plan.windows
  channels = plan.heads * plan.head_dim
  moved = sum(x.size * x.dtype.itemsize for x in (*arguments, *outputs))
  passes = len(outputs)
  return pl.pallas_call(
    functools.partial(kernel, plan=plan),
    grid=(batch, pl.cdiv(plan.length, plan.rows)),
    in_specs=specs,
    out_specs=[
      pl.BlockSpec((None, plan.rows, x.shape[2]), block) for x in outputs
    ],
    out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outputs],
    scratch_shapes=[
      *(pltpu.VMEM((around, channels), dtype) for dtype in scratch_types),
      pltpu.VMEM((around, LANES * plan.tap_tiles), jnp.float32),
    ],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel")
    ),
    cost_estimate=pl.CostEstimate(
      flops=2 * passes * batch * plan.length * channels * plan.width,
      transcendentals=batch * plan.length * plan.heads * plan.width,
      bytes_accessed=moved,
    ),
    interpret=static.interpret,
    name=name,
  )(*arguments)


def _with_neighbours(array, plan, around):
  """An array [batch, length, lanes] as inputs: a block, what lies around it."""
  lanes = array.shape[2]
  specs = [pl.BlockSpec((None, plan.rows, lanes), lambda b, i: (b, i, 0))]
  if plan.alone or not around:
    return [array], specs
  steps, last = plan.rows // HALO, pl.cdiv(plan.length, HALO) - 1
  before = lambda b, i: (b, jnp.maximum(i * steps - 1, 0), 0)
  after = lambda b, i: (b, jnp.minimum((i + 1) * steps, last), 0)
  specs += [pl.BlockSpec((None, HALO, lanes), f) for f in (before, after)]
  return [array] * 3, specs


def _segments(segments, plan):
  """Ids of every window, [batch, blocks, windows, LANES], as an input."""
  if segments is None:
    return [], []
  number = pl.cdiv(plan.length, plan.rows)
  past = number * plan.rows + plan.windows * OWN + LANES - plan.length
  padded = jnp.pad(segments, ((0, 0), (HALO, past)))
  first = (
    jnp.arange(number)[:, None] * plan.rows
    + jnp.arange(plan.windows)[None, :] * OWN
  )
  index = first[:, :, None] + jnp.arange(LANES)[None, None, :]
  shape = None, None, plan.windows, LANES
  return [padded[:, index]], [pl.BlockSpec(shape, lambda b, i: (b, i, 0, 0))]


def _flat(x):
  """[batch, length, heads * channels]."""
  return x.reshape(*x.shape[:2], -1)


def _taps_flat(logits, plan):
  """[batch, length, lanes]: as they are, or heads that fill whole tiles."""
  if plan.tap_tiles == 1:
    return _flat(logits)
  batch, length, heads, width = logits.shape
  missing = plan.tap_tiles * plan.heads_of_tile - heads
  logits = jnp.pad(logits, ((0, 0), (0, 0), (0, missing), (0, 0)))
  tiles = logits.reshape(batch, length, plan.tap_tiles, -1)
  rest = LANES - tiles.shape[3]
  return _flat(jnp.pad(tiles, ((0, 0), (0, 0), (0, 0), (0, rest))))


def _taps_back(taps, shape, plan):
  """`_taps_flat` backwards."""
  if plan.tap_tiles == 1:
    return taps.reshape(shape)
  batch, length, heads, width = shape
  tiles = taps.reshape(batch, length, plan.tap_tiles, LANES)
  tiles = tiles[..., : plan.heads_of_tile * width]
  return tiles.reshape(batch, length, -1, width)[:, :, :heads]
