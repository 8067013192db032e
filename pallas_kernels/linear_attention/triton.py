"""Linear attention as one Pallas Triton kernel, forward and backward.

Every sum of this op and of its gradients has one form, with a mask over
(row, column) that is that of attention or its transpose:

  product_i = sum_j mask_ij (a_i . b_j + alpha_i beta_j) c_j

  out (unscaled)  a, b, c = query, key, value
  grad_query      a, b, c = grad, value, key     alpha = -grad . out, beta = 1
  grad_key        a, b, c = value, grad, query   alpha = 1, beta = -grad . out
  grad_value      a, b, c = key, query, grad

where grad is the gradient of out over the denominator. A program goes through
one head's row chunk by chunk, from the left or from the right, and keeps the
state (see `chunked.py`) in registers in float32: each array is read once and
nothing but the result is written. Without causality it goes both ways, once
with the scores of each chunk and once with the state alone.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt
from jax.sharding import PartitionSpec as P

from pallas_kernels import _compat, _platform
from pallas_kernels.flash_attention import sharded
from pallas_kernels.linear_attention.chunked import fill


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Tile sizes.

  Attributes:
    chunk: positions at a time, a power of two from 16.
    warps: of a program.
  """

  chunk: int = 32
  warps: int = 8


@dataclasses.dataclass(frozen=True)
class _Static:
  causal: bool
  epsilon: float
  blocks: Blocks
  interpret: bool


@dataclasses.dataclass(frozen=True)
class _Pass:
  """One way through the rows.

  Attributes:
    reverse: from the right.
    scores: within a chunk 'all', those 'behind' the row in the direction of
      the way and its own, or 'none'.
  """

  reverse: bool
  scores: str


def linear_attention(
  query_features,
  key_features,
  value,
  *,
  causal,
  segments,
  epsilon,
  blocks=None,
  interpret=False,
):
  """See `api.linear_attention`; `blocks` is a `Blocks` or None.

  Raises:
    NotImplementedError: a dtype that is not float32, bfloat16 or float16, or
      features or values wider than 128, or
      rows or heads that do not divide over the mesh.
  """
  arrays = (query_features, key_features, value)
  for x in arrays:
    if x.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
      raise NotImplementedError(
        f"linear_attention 'triton' takes float32, bfloat16 and float16, not "
        f"{x.dtype}"
      )
    if x.shape[-1] > 128:
      raise NotImplementedError(
        f"linear_attention 'triton' keeps its state in registers: "
        f"{x.shape[-1]} features or channels are more than 128"
      )
  documents = None
  if segments is not None:
    documents = fill(segments.astype(jnp.int32))
    # The sign tells padding, which has the document around it.
    documents = jnp.where(segments > 0, documents, -documents)
  static = _Static(causal, epsilon, blocks or Blocks(), interpret)
  return _sharded(static, *arrays, documents)


def _sharded(static, query, key, value, documents):
  """On each device of a mesh its own rows and heads; nothing is exchanged."""
  mesh = _platform.mesh_of((query, key, value))
  if not sharded.free_axes(mesh):
    return _attend(static, query, key, value, documents)
  rows, heads = (axes or None for axes in sharded.split_axes(mesh))
  if sharded.divided(mesh, *query.shape[::2][:2]) != mesh.size:
    raise NotImplementedError(
      f"linear_attention 'triton': {query.shape[0]} rows or {query.shape[2]} "
      f"heads do not divide over the mesh {dict(mesh.shape)}"
    )
  spec = P(rows, None, heads, None)
  run = lambda *arrays: _attend(static, *arrays)
  return _compat.shard_map(
    run,
    mesh=mesh,
    in_specs=(spec, spec, spec, None if documents is None else P(rows, None)),
    out_specs=spec,
  )(query, key, value, documents)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(static, query, key, value, documents):
  return _forward(static, query, key, value, documents)[0]


def _forward(static, query, key, value, documents):
  out, total = _product(
    static,
    "out",
    query,
    key,
    value,
    documents,
    dtype=jnp.float32,
    with_total=True,
  )
  out = out / (total + static.epsilon)[..., None]
  # Kept in float32: grad . out stands against sums of positive features.
  return out.astype(value.dtype), (query, key, value, documents, out, total)


def _backward(static, residuals, grad):
  query, key, value, documents, out, total = residuals
  grad = grad.astype(jnp.float32) / (total + static.epsilon)[..., None]
  grad = grad.astype(value.dtype)
  slope = -jnp.sum(grad.astype(jnp.float32) * out, -1)
  product = functools.partial(_product, static, documents=documents)
  back = functools.partial(product, transposed=True)
  grad_query = product(
    "grad_query", grad, value, key, alpha=slope, dtype=query.dtype
  )
  grad_key = back("grad_key", value, grad, query, beta=slope, dtype=key.dtype)
  grad_value = back("grad_value", key, query, grad, dtype=value.dtype)
  none = documents
  if documents is not None:
    none = np.zeros(documents.shape, jax.dtypes.float0)
  return grad_query, grad_key, grad_value, none


_attend.defvjp(_forward, _backward)


def _product(
  static,
  name,
  a,
  b,
  c,
  documents,
  *,
  alpha=None,
  beta=None,
  dtype,
  transposed=False,
  with_total=False,
):
  """product_i as above; with `with_total` also sum_j mask_ij a_i . b_j.

  Args:
    static: a `_Static`.
    name: of the launches.
    a: [batch, length, heads, width].
    b: [batch, length, heads, width].
    c: [batch, length, heads, channels].
    documents: [batch, length] int32 or None.
    alpha: [batch, length, heads] float32 or None; 1 where beta is given.
    beta: [batch, length, heads] float32 or None; 1 where alpha is given.
    dtype: of the product.
    transposed: the mask is that of keys against queries.
    with_total: return the row sums too, float32 [batch, length, heads].
  """
  run = functools.partial(
    _call, static, name, (a, b, c), documents, alpha, beta, with_total
  )
  if static.causal:
    found = run((), dtype, _Pass(transposed, "behind"))
  else:
    there = run((), jnp.float32, _Pass(False, "all"))
    found = run(there, dtype, _Pass(True, "none"))
  return found if with_total else found[0]


def _call(
  static, name, arrays, documents, alpha, beta, with_total, add, dtype, way
):
  """One launch over (heads, batch); `add` holds an earlier one's results."""
  a, _, c = arrays
  batch, length, heads, channels = c.shape

  def row(x):
    if x.ndim == 2:
      return pl.BlockSpec((None, length), lambda h, b: (b, 0))
    if x.ndim == 3:
      return pl.BlockSpec((None, length, None), lambda h, b: (b, 0, h))
    shape = (None, length, None, x.shape[3])
    return pl.BlockSpec(shape, lambda h, b: (b, 0, h, 0))

  outputs = {"out": jax.ShapeDtypeStruct(c.shape, dtype)}
  if with_total:
    outputs["total"] = jax.ShapeDtypeStruct(c.shape[:3], jnp.float32)
  before = {f"{name}_before": x for name, x in zip(outputs, add)}
  inputs = dict(a=a, b=arrays[1], c=c, documents=documents)
  inputs |= dict(alpha=alpha, beta=beta) | before
  inputs = {name: x for name, x in inputs.items() if x is not None}
  names = (*inputs, *outputs)
  moved = sum(
    x.size * x.dtype.itemsize for x in (*inputs.values(), *outputs.values())
  )
  chunk = static.blocks.chunk
  width = a.shape[3]
  per_row = 2 * width * channels + chunk * (width + channels)
  return pl.pallas_call(
    lambda *refs: _kernel(dict(zip(names, refs)), chunk, way, static.interpret),
    grid=(heads, batch),
    in_specs=[row(x) for x in inputs.values()],
    out_specs=[row(x) for x in outputs.values()],
    out_shape=list(outputs.values()),
    compiler_params=_compat.triton_params(
      num_warps=static.blocks.warps, num_stages=1
    ),
    cost_estimate=pl.CostEstimate(
      flops=2 * batch * heads * length * per_row,
      transcendentals=0,
      bytes_accessed=moved,
    ),
    interpret=static.interpret,
    name=f"linear_attention_{name}",
  )(*inputs.values())


def _kernel(refs, chunk, way, interpret):
  """One head's row; `refs` by name, see `_call`."""
  length, width = refs["a"].shape
  chunks = pl.cdiv(length, chunk)
  columns = pl.next_power_of_2(width)
  others = pl.next_power_of_2(refs["c"].shape[1])
  dot = functools.partial(_dot, interpret=interpret)
  # What else is summed: c (with alpha, beta), and b (for the total).
  ranked = "alpha" in refs or "beta" in refs

  def step(i, carry):
    held, carry = carry[0], carry[1:]
    first = (chunks - 1 - i if way.reverse else i) * chunk
    place = first + jnp.arange(chunk)
    documents, real = _documents(refs, place, length)
    near, far = _ends(refs, held, first, chunk, length, way.reverse)
    goes_on = (near == held).astype(jnp.float32)
    state, *sums = (x * goes_on for x in carry)
    a = _rows(refs["a"], place, real, columns)
    b = _rows(refs["b"], place, real, columns)
    c = _rows(refs["c"], place, real, others)
    reads = (documents == near).astype(jnp.float32)
    out = dot(a, state) * reads[:, None]
    if ranked:
      alpha = _scalars(refs.get("alpha"), place, real)
      beta = _scalars(refs.get("beta"), place, real)
      out += (alpha * reads)[:, None] * sums[0][None, :]
    if "total" in refs:
      total = jnp.sum(a.astype(jnp.float32) * sums[-1][None, :], 1) * reads
    if way.scores != "none":
      scores = dot(a, b.T)
      if ranked:
        scores += alpha[:, None] * beta[None, :]
      seen = documents[:, None] == documents[None, :]
      if way.scores == "behind":
        row, column = place[:, None], place[None, :]
        seen &= column >= row if way.reverse else column <= row
      scores = jnp.where(seen, scores, 0.0)
      out += dot(scores, c)
      if "total" in refs:
        total += jnp.sum(scores, 1)
    _store(refs, "out", (place[:, None], jnp.arange(others)[None, :]), out)
    if "total" in refs:
      _store(refs, "total", (place,), total)
    own = documents == far
    through = (near == far).astype(jnp.float32)
    b = jnp.where(own[:, None], b, jnp.zeros((), b.dtype))
    state = state * through + dot(b.T, c)
    sums = [x * through for x in sums]
    if ranked:
      weight = jnp.where(own, beta, 0.0)
      sums[0] += jnp.sum(weight[:, None] * c.astype(jnp.float32), 0)
    if "total" in refs:
      sums[-1] += jnp.sum(b.astype(jnp.float32), 0)
    return far, state, *sums

  start = [jnp.int32(1), jnp.zeros((columns, others), jnp.float32)]
  start += [jnp.zeros((others,), jnp.float32)] if ranked else []
  start += [jnp.zeros((columns,), jnp.float32)] if "total" in refs else []
  lax.fori_loop(0, chunks, step, tuple(start))


def _documents(refs, place, length):
  """Document of each place, and which places hold a token."""
  inside = place < length
  if "documents" not in refs:
    return inside.astype(jnp.int32), inside
  signed = plt.load(refs["documents"].at[place], mask=inside, other=0)
  return jnp.abs(signed), signed > 0


def _ends(refs, held, first, chunk, length, reverse):
  """Documents at the ends of a chunk: where a way enters and leaves it."""
  if "documents" not in refs:
    return held, held
  last = jnp.minimum(first + chunk, length) - 1
  ends = [jnp.abs(plt.load(refs["documents"].at[i])) for i in (first, last)]
  return (ends[1], ends[0]) if reverse else (ends[0], ends[1])


def _rows(ref, place, wanted, columns):
  """[len(place), columns], 0 where not wanted and past the row's end."""
  column = jnp.arange(columns)
  mask = wanted[:, None] & (column < ref.shape[1])[None, :]
  return plt.load(ref.at[place[:, None], column[None, :]], mask=mask, other=0.0)


def _scalars(ref, place, real):
  if ref is None:
    return real.astype(jnp.float32)
  return plt.load(ref.at[place], mask=real, other=0.0)


def _store(refs, name, at, values):
  """Stores what lies inside, added to what an earlier launch found."""
  mask = at[0] < refs[name].shape[0]
  if len(at) == 2:
    mask &= at[1] < refs[name].shape[1]
  if f"{name}_before" in refs:
    before = refs[f"{name}_before"]
    values += plt.load(before.at[at], mask=mask, other=0.0)
  plt.store(refs[name].at[at], values.astype(refs[name].dtype), mask=mask)


def _dot(a, b, *, interpret):
  """A product in float32 on tensor cores.

  16-bit factors go in as they are. Against a bfloat16 factor a float32 one
  (the state, scores) goes in as the sum of two bfloat16, against a float16
  one, whose range is too small for that, as TF32; two float32 factors in
  three passes of TF32.
  """
  if a.dtype == b.dtype == jnp.float32:
    precision = lax.DotAlgorithmPreset.TF32_TF32_F32_X3
    return _product_of(a, b, lax.Precision.HIGHEST if interpret else precision)
  if a.dtype == b.dtype:
    return _product_of(a, b, None)
  if jnp.float16 in (a.dtype, b.dtype):
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return _product_of(a, b, lax.Precision.HIGH)
  if a.dtype == jnp.float32:
    high, low = _split(a)
    return _product_of(high, b, None) + _product_of(low, b, None)
  high, low = _split(b)
  return _product_of(a, high, None) + _product_of(a, low, None)


def _split(x):
  """Two bfloat16 whose sum is x to 16 bits."""
  high = x.astype(jnp.bfloat16)
  return high, (x - high.astype(jnp.float32)).astype(jnp.bfloat16)


def _product_of(a, b, precision):
  return jnp.dot(a, b, precision=precision, preferred_element_type=jnp.float32)
