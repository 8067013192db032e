"""Linear attention as one Pallas Triton kernel, forward and backward.

It computes the one product of `gradients.py`. A program goes through one
head's row chunk by chunk, from the left or from the right, and keeps the state
(see `chunked.py`) in registers in float32: each array is read once and nothing
but the result is written. Without causality it goes both ways, once
with the scores of each chunk and once with the state alone.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from pallas_kernels import _compat
from pallas_kernels.linear_attention import gradients


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Tile sizes.

  Attributes:
    chunk: positions at a time, a power of two from 16.
    columns: of the result that a program computes, a power of two from 16;
      the scores are computed anew for each part of the columns.
    depth: features that are multiplied at a time, a power of two from 16.
    warps: of a program.
  """

  chunk: int = 32
  columns: int = 128
  depth: int = 128
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
      features or values wider than 128, or rows or heads that do not divide
      over the mesh.
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
  static = _Static(causal, epsilon, blocks or default_blocks(arrays), interpret)
  return gradients.attend(_product, "triton", static, *arrays, segments)


def default_blocks(arrays) -> Blocks:
  """The largest that spill no register, found by compiling for an H200.

  Chunks of 64, which Hopper's widest products want, spill in every dtype.
  """
  arrays = tuple(arrays)
  if all(x.dtype.itemsize == 2 for x in arrays):
    return Blocks()
  wide = max(x.shape[-1] for x in arrays) > 64
  return Blocks(chunk=16, columns=32 if wide else 64, depth=64)


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
  """See `gradients.attend`."""
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
      return pl.BlockSpec((None, length), lambda h, b, t: (b, 0))
    if x.ndim == 3:
      return pl.BlockSpec((None, length, None), lambda h, b, t: (b, 0, h))
    shape = (None, length, None, x.shape[3])
    return pl.BlockSpec(shape, lambda h, b, t: (b, 0, h, 0))

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
  width = a.shape[3]
  columns = min(static.blocks.columns, pl.next_power_of_2(channels))
  kernel = functools.partial(
    _kernel,
    blocks=static.blocks,
    columns=columns,
    way=way,
    interpret=static.interpret,
  )
  per_row = 2 * width * channels + static.blocks.chunk * (width + channels)
  return pl.pallas_call(
    lambda *refs: kernel(dict(zip(names, refs))),
    grid=(heads, batch, pl.cdiv(channels, columns)),
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
    name=f"linear_attention_{name}" + ("_right" if add else ""),
  )(*inputs.values())


def _kernel(refs, *, blocks, columns, way, interpret):
  """Columns of one head's row; `refs` by name, see `_call`."""
  length, width = refs["a"].shape
  chunks = pl.cdiv(length, blocks.chunk)
  depth = min(blocks.depth, pl.next_power_of_2(width))
  depths = [first + jnp.arange(depth) for first in range(0, width, depth)]
  mine = pl.program_id(2) * columns + jnp.arange(columns)
  dot = functools.partial(_dot, interpret=interpret)

  def step(i, state):
    first = (chunks - 1 - i if way.reverse else i) * blocks.chunk
    here = _here(refs, state, first, blocks.chunk, way.reverse)
    state = state.times((here.near == state.document).astype(jnp.float32))
    a, b = (
      [_rows(refs[name], here, column) for column in depths] for name in "ab"
    )
    c = _rows(refs["c"], here, mine)
    out, total = _from_state(refs, a, state, here, dot)
    if way.scores != "none":
      scores = _scores(refs, a, b, here, way, dot)
      out += dot(scores, c)
      total += jnp.sum(scores, 1)
    _store(refs, "out", (here.place[:, None], mine[None, :]), out)
    if "total" in refs:
      _store(refs, "total", (here.place,), total)
    return _next_state(refs, state, b, c, here, dot)

  zeros = lambda *shape: jnp.zeros(shape, jnp.float32)
  start = _State(
    document=jnp.int32(1),
    products=tuple(zeros(depth, columns) for _ in depths),
    # What else is summed: c (with alpha, beta), and b (for the total).
    values=zeros(columns) if _ranked(refs) else None,
    keys=tuple(zeros(depth) for _ in depths) if "total" in refs else None,
  )
  lax.fori_loop(0, chunks, step, start)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _State:
  """Sums over the keys of one document, all before a chunk.

  Attributes:
    document: which.
    products: of b and c, [depth, columns] for each part of b's columns.
    values: of beta c, [columns], or None.
    keys: of b, [depth] for each part, or None.
  """

  document: jax.Array
  products: tuple
  values: jax.Array | None
  keys: tuple | None

  def times(self, factor) -> "_State":
    """The sums multiplied."""
    sums = (self.products, self.values, self.keys)
    return _State(self.document, *jax.tree.map(lambda x: x * factor, sums))


@dataclasses.dataclass(frozen=True)
class _Here:
  """A chunk of positions.

  Attributes:
    place: [chunk] in the row.
    documents: [chunk] each position's; padding has the one around it.
    real: [chunk] bool, whether there is a token.
    near: document where the way enters.
    far: document where the way leaves.
  """

  place: jax.Array
  documents: jax.Array
  real: jax.Array
  near: jax.Array
  far: jax.Array


def _here(refs, state, first, chunk, reverse):
  length = refs["a"].shape[0]
  place = first + jnp.arange(chunk)
  inside = place < length
  if "documents" not in refs:
    one = inside.astype(jnp.int32)
    return _Here(place, one, inside, state.document, state.document)
  ids = refs["documents"]
  signed = plt.load(ids.at[place], mask=inside, other=0)
  last = jnp.minimum(first + chunk, length) - 1
  ends = [jnp.abs(plt.load(ids.at[i])) for i in (first, last)]
  ends = ends[::-1] if reverse else ends
  return _Here(place, jnp.abs(signed), signed > 0, *ends)


def _from_state(refs, a, state, here, dot):
  """What the keys before the chunk add to its rows, and to their totals."""
  reads = (here.documents == here.near).astype(jnp.float32)
  out = sum(dot(x, product) for x, product in zip(a, state.products))
  out *= reads[:, None]
  if _ranked(refs):
    alpha = _scalars(refs.get("alpha"), here) * reads
    out += alpha[:, None] * state.values[None, :]
  total = 0.0
  if "total" in refs:
    for x, keys in zip(a, state.keys):
      total += jnp.sum(x.astype(jnp.float32) * keys[None, :], 1)
    total *= reads
  return out, total


def _scores(refs, a, b, here, way, dot):
  """[chunk, chunk] of the chunk's rows and its own keys."""
  scores = sum(dot(x, y.T) for x, y in zip(a, b))
  if _ranked(refs):
    alpha, beta = (_scalars(refs.get(n), here) for n in ("alpha", "beta"))
    scores += alpha[:, None] * beta[None, :]
  seen = here.documents[:, None] == here.documents[None, :]
  if way.scores == "behind":
    row, column = here.place[:, None], here.place[None, :]
    seen &= column >= row if way.reverse else column <= row
  return jnp.where(seen, scores, 0.0)


def _next_state(refs, state, b, c, here, dot):
  """Sums of the document in which the way leaves the chunk."""
  own = here.documents == here.far
  state = state.times((here.near == here.far).astype(jnp.float32))
  b = [jnp.where(own[:, None], x, jnp.zeros((), x.dtype)) for x in b]
  products = tuple(p + dot(x.T, c) for p, x in zip(state.products, b))
  values, keys = state.values, state.keys
  if values is not None:
    weight = jnp.where(own, _scalars(refs.get("beta"), here), 0.0)
    values += jnp.sum(weight[:, None] * c.astype(jnp.float32), 0)
  if keys is not None:
    keys = tuple(k + jnp.sum(x.astype(jnp.float32), 0) for k, x in zip(keys, b))
  return _State(here.far, products, values, keys)


def _ranked(refs):
  return "alpha" in refs or "beta" in refs


def _rows(ref, here, column):
  """[chunk, len(column)], 0 where no token is and past the array's end."""
  mask = here.real[:, None] & (column < ref.shape[1])[None, :]
  at = here.place[:, None], column[None, :]
  return plt.load(ref.at[at], mask=mask, other=0.0)


def _scalars(ref, here):
  if ref is None:
    return here.real.astype(jnp.float32)
  return plt.load(ref.at[here.place], mask=here.real, other=0.0)


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
