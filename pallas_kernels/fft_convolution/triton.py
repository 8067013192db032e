"""Long convolution as one Pallas Triton kernel a direction (FlashFFTConv).

Each sequence is read once, transformed, multiplied with the filter's response,
transformed back and written once; see `on_chip.py`. What goes around it is
left to XLA: the response of the filter, of which there is one for the whole
batch; and the turn to [batch, channels, length] and back, without which a
thread's neighbours would lie far apart. The gate of the output and the skip
are fused with the turn back.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec as P

from pallas_kernels import _compat, _platform
from pallas_kernels.fft_convolution import monarch, on_chip
from pallas_kernels.fft_convolution import plan as plans
from pallas_kernels.flash_attention import sharded

# Of a tile that four warps keep without spilling (see `tests/aot`): rows, and
# columns for each number of parts.
_HALF, _COLUMNS = 64, {2: 32, 3: 16}


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Launch sizes.

  Attributes:
    batch: rows of the batch that a program goes through.
  """

  batch: int = 16


@dataclasses.dataclass(frozen=True)
class _Static:
  plan: plans.Plan
  blocks: Blocks
  interpret: bool


def fft_convolution(
  x,
  filter,
  *,
  gate_in,
  causal,
  frequency_mask,
  blocks=None,
  interpret=False,
):
  """See `reference.fft_convolution`; `blocks` is a `Blocks` or None.

  Raises:
    NotImplementedError: a frequency mask, a dtype that is not float32,
      bfloat16 or float16, sequences that are too long, or rows or channels
      that do not divide over the mesh.
  """
  if frequency_mask is not None:
    raise NotImplementedError(
      "fft_convolution 'triton' transforms at the frequencies k + 1/2, which "
      "a frequency mask does not speak of"
    )
  for array in (x, filter, *([] if gate_in is None else [gate_in])):
    if array.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
      raise NotImplementedError(
        f"fft_convolution 'triton' takes float32, bfloat16 and float16, not "
        f"{array.dtype}"
      )
  taps = filter.shape[0] if causal else (filter.shape[0] + 1) // 2
  plan = plans.of_factors(_factors(x.shape[1] + taps - 1, _parts(x, gate_in)))
  placed = monarch.lay_out(plan, filter, causal=causal)
  return _sharded(
    _Static(plan, blocks or Blocks(), interpret), x, gate_in, placed
  )


def _parts(x, gate):
  """bfloat16 that make up a number of the signal's precision."""
  arrays = (x,) if gate is None else (x, gate)
  return 2 if all(a.dtype.itemsize == 2 for a in arrays) else 3


def _factors(needed, parts):
  """Of the smallest power of two that is large enough; 4 or 8 warps."""
  columns = _COLUMNS[parts]
  if needed > 4 * _HALF * columns:
    raise NotImplementedError(
      f"fft_convolution 'triton' keeps a sequence in registers: {needed} = "
      f"length + taps - 1 points are more than {4 * _HALF * columns}, the "
      f"most in {'float32' if parts == 3 else '16 bits'}"
    )
  points = max(4 * _HALF, 1 << (needed - 1).bit_length())
  first = (2 if points <= 2 * _HALF * columns else 4) * _HALF
  return first, points // first


def _sharded(static, x, gate, placed):
  """On each device of a mesh its own rows and channels."""
  mesh = _platform.mesh_of((x, placed))
  if not sharded.free_axes(mesh):
    return _convolution(static, x, gate, placed)
  rows, channels = (axes or None for axes in sharded.split_axes(mesh))
  if sharded.divided(mesh, *x.shape[::2]) != mesh.size:
    raise NotImplementedError(
      f"fft_convolution 'triton': {x.shape[0]} rows or {x.shape[2]} channels "
      f"do not divide over the mesh {dict(mesh.shape)}"
    )
  spec = P(rows, None, channels)
  return _compat.shard_map(
    functools.partial(_convolution, static),
    mesh=mesh,
    in_specs=(spec, None if gate is None else spec, P(None, channels)),
    out_specs=spec,
  )(x, gate, placed)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolution(static, x, gate, placed):
  response = _response(static.plan, placed)
  return _convolve(static, "forward", x, gate, response, conjugate=False)


def _forward(static, x, gate, placed):
  return _convolution(static, x, gate, placed), (x, gate, placed)


def _backward(static, residuals, grad):
  x, gate, placed = residuals
  response = _response(static.plan, placed)
  grad_signal = _convolve(
    static, "backward_signal", grad, None, response, conjugate=True,
    parts=_parts(x, gate),
  )  # fmt: skip
  sums = _correlate(static, x, gate, grad)
  grad_placed = monarch.synthesise(
    static.plan, sums, placed.shape[0], lax.Precision.HIGHEST
  )[0]
  grad_x, grad_gate = grad_signal, None
  if gate is not None:
    grad_x = grad_signal * gate.astype(jnp.float32)
    grad_gate = (grad_signal * x.astype(jnp.float32)).astype(gate.dtype)
  return grad_x.astype(x.dtype), grad_gate, grad_placed


_convolution.defvjp(_forward, _backward)


def _response(plan, placed):
  """[half, row, 2, channels] float32 of the filter."""
  return monarch.analyse(plan, placed[None], lax.Precision.HIGHEST)[0]


def _convolve(static, name, x, gate, response, *, conjugate, parts=None):
  """[batch, length, channels] float32."""
  form = _form(static, x, parts or _parts(x, gate))
  inputs = dict(signal=_turned(x, form))
  if gate is not None:
    inputs["gate"] = _turned(gate, form)
  inputs |= _constants(static.plan, form)
  scale = 2.0 / static.plan.points
  inputs["response"] = _columns(response * scale, form)
  batch, groups = inputs["signal"].shape[:2]
  shape = jax.ShapeDtypeStruct(
    (batch, groups, form.side * form.length), jnp.float32
  )
  kernel = functools.partial(on_chip.convolve, form=form, conjugate=conjugate)
  spec = pl.BlockSpec(
    (form.batch, None, shape.shape[2]), lambda i, j: (j, i, 0)
  )
  out = _call(static, form, name, kernel, inputs, shape, spec, transforms=2)
  return _turned_back(out, x.shape, form)


def _correlate(static, x, gate, grad):
  """[1, half, row, 2, channels]: sum over rows of grad x conj(gated x)."""
  form = _form(static, x, _parts(x, gate))
  inputs = dict(signal=_turned(x, form), slope=_turned(grad, form))
  if gate is not None:
    inputs["gate"] = _turned(gate, form)
  inputs |= _constants(static.plan, form)
  groups = inputs["signal"].shape[1]
  tile = (2, form.half, form.columns)
  chunks = pl.cdiv(form.total, form.batch)
  shape = jax.ShapeDtypeStruct((chunks, groups, *tile), jnp.float32)
  kernel = functools.partial(on_chip.correlate, form=form)
  spec = pl.BlockSpec((None, None, *tile), lambda i, j: (j, i, 0, 0, 0))
  sums = _call(
    static, form, "backward_filter", kernel, inputs, shape, spec, transforms=2
  )
  sums = jnp.sum(sums, 0).reshape(groups, *tile[:2], form.side, form.row)
  sums = jnp.transpose(sums, (2, 4, 1, 0, 3))
  return sums.reshape(1, form.half, form.row, 2, -1)[..., : x.shape[2]]


def _call(static, form, name, kernel, inputs, shape, spec, *, transforms):
  """One launch over (groups of channels, chunks of the batch)."""
  names = (*inputs, "out")
  groups = inputs["signal"].shape[1]
  moved = sum(x.size * x.dtype.itemsize for x in (*inputs.values(), shape))
  per_column = form.half * (2 * form.rows + 4 * form.columns)
  return pl.pallas_call(
    lambda *refs: kernel(dict(zip(names, refs))),
    grid=(groups, pl.cdiv(form.total, form.batch)),
    in_specs=[_spec(name, x, form) for name, x in inputs.items()],
    out_specs=spec,
    out_shape=shape,
    compiler_params=_compat.triton_params(
      num_warps=form.half // 16, num_stages=1
    ),
    cost_estimate=pl.CostEstimate(
      flops=2 * transforms * form.total * groups * form.columns * per_column,
      transcendentals=0,
      bytes_accessed=moved,
    ),
    interpret=static.interpret,
    name=f"fft_convolution_{name}",
  )(*inputs.values())


def _spec(name, x, form):
  if name in ("signal", "gate", "slope"):
    return pl.BlockSpec((form.batch, None, x.shape[2]), lambda i, j: (j, i, 0))
  if name == "response":
    return pl.BlockSpec((None, *x.shape[1:]), lambda i, j: (i, 0, 0, 0))
  return pl.BlockSpec(x.shape, lambda i, j: (0,) * x.ndim)


def _form(static, x, parts):
  batch, length, _ = x.shape
  half, row = len(static.plan.kept[0]), static.plan.row
  return on_chip.Form(
    length=length,
    row=row,
    half=half,
    rows=half if length <= half * row else 2 * half,
    side=max(1, _COLUMNS[parts] // row),
    parts=parts,
    exact=x.dtype == jnp.bfloat16,
    batch=min(static.blocks.batch, batch),
    total=batch,
    interpret=static.interpret,
  )


def _turned(x, form):
  """[batch, groups of channels, side * length]."""
  missing = -x.shape[2] % form.side
  x = jnp.swapaxes(jnp.pad(x, ((0, 0), (0, 0), (0, missing))), 1, 2)
  return x.reshape(x.shape[0], -1, form.side * form.length)


def _turned_back(x, shape, form):
  x = x.reshape(shape[0], -1, form.length)[:, : shape[2]]
  return jnp.swapaxes(x, 1, 2)


def _columns(response, form):
  """[groups, 2, half, columns] of [half, row, 2, channels]."""
  missing = -response.shape[3] % form.side
  response = jnp.pad(response, ((0, 0), (0, 0), (0, 0), (0, missing)))
  shape = *response.shape[:3], -1, form.side
  response = jnp.transpose(response.reshape(shape), (3, 2, 0, 4, 1))
  return response.reshape(*response.shape[:3], form.columns)


def _constants(plan, form):
  """The matrices in parts, and the numbers between them."""
  left = np.stack(plan.analysis(0))[:, :, : form.rows]
  one = np.eye(form.side)
  real, imaginary = (np.kron(one, m) for m in plan.analysis(1))
  right = np.stack([real, imaginary, -imaginary])
  turn = np.tile(np.stack(plan.twiddles[0]), (1, 1, form.side))
  return dict(
    left=_cut(left, form.parts),
    right=_cut(right, form.parts),
    turn=jnp.asarray(turn, jnp.float32),
  )


def _cut(x, parts):
  """[parts, ..] bfloat16 whose sum is x."""
  found = []
  for _ in range(parts):
    found.append(x.astype(jnp.bfloat16))
    x = x - found[-1].astype(np.float64)
  return jnp.asarray(np.stack(found))
