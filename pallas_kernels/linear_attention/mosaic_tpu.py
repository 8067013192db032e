"""Linear attention as one Pallas Mosaic kernel, forward and backward, for TPU.

It computes the one product of `gradients.py`. The last axis of the grid goes
through rows chunk by chunk, from the left or from the right, with the state
(see `chunked.py`) in scratch memory in float32: each array is read once and
nothing but the result is written. Without causality there are two ways, one
with the scores of each chunk and one with the state alone.

alpha and beta are columns beside those of a and b, and the row sums are a
product with a column of ones beside c: lanes that a head of 64 leaves idle.
What each position has to do with the state is made by XLA from the documents.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels.linear_attention import gradients


@dataclasses.dataclass(frozen=True)
class Tiles:
  """Tile sizes.

  Attributes:
    chunk: positions at a time, a multiple of 128; shorter rows are one chunk.
    heads: at most so many are worked on in one step of the grid.
  """

  chunk: int = 256
  heads: int = 4


@dataclasses.dataclass(frozen=True)
class _Static:
  causal: bool
  epsilon: float
  tiles: Tiles
  interpret: bool


@dataclasses.dataclass(frozen=True)
class _Way:
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
  """See `api.linear_attention`; `blocks` is a `Tiles` or None.

  Raises:
    NotImplementedError: a dtype that is not float32 or bfloat16, features or
      values wider than 512, or rows or heads that do not divide over the mesh.
  """
  arrays = (query_features, key_features, value)
  for x in arrays:
    if x.dtype not in (jnp.float32, jnp.bfloat16):
      raise NotImplementedError(
        f"linear_attention 'mosaic_tpu' takes float32 and bfloat16, which a "
        f"TPU computes with, not {x.dtype}"
      )
    if x.shape[-1] > 512:
      raise NotImplementedError(
        f"linear_attention 'mosaic_tpu' keeps its state in fast memory: "
        f"{x.shape[-1]} features or channels are more than 512"
      )
  static = _Static(causal, epsilon, blocks or Tiles(), interpret)
  return gradients.attend(_product, "mosaic_tpu", static, *arrays, segments)


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
  channels = c.shape[-1]
  if alpha is not None or beta is not None:
    a, b = _beside(a, b, alpha, beta)
  if with_total:
    one = jnp.ones((*c.shape[:3], 1), c.dtype)
    c = jnp.concatenate([c, one], -1)
  real = None if documents is None else (documents > 0)[..., None, None]
  length = a.shape[1]
  chunk = static.tiles.chunk
  chunk = length if length <= chunk else chunk
  missing = -length % chunk
  arrays = [_heads_first(x, real, missing) for x in (a, b, c)]
  if documents is not None:
    documents = jnp.pad(jnp.abs(documents), ((0, 0), (0, missing)), mode="edge")
  run = functools.partial(_call, static, name, chunk, arrays, documents)
  if static.causal:
    found = run(None, dtype, _Way(transposed, "behind"))
  else:
    there = run(None, jnp.float32, _Way(False, "all"))
    found = run(there, dtype, _Way(True, "none"))
  found = jnp.swapaxes(found[:, :, :length], 1, 2)
  if documents is not None:
    found = jnp.where(real, found, jnp.zeros((), dtype))
  if not with_total:
    return found
  return found[..., :channels], found[..., channels]


def _beside(a, b, alpha, beta):
  """a and b with columns whose products are alpha beta, in full precision."""
  small = a.dtype == b.dtype == jnp.bfloat16
  known = _cut(alpha if beta is None else beta, 3 if small else 1)
  known = jnp.stack(known, -1).astype(a.dtype if small else jnp.float32)
  ones = jnp.ones_like(known)
  more = (known, ones) if beta is None else (ones, known)
  return tuple(
    jnp.concatenate([x.astype(y.dtype), y], -1) for x, y in zip((a, b), more)
  )


def _cut(x, parts):
  """bfloat16 numbers whose sum is x to 8 bits each; x itself for one part."""
  found = []
  for _ in range(parts - 1):
    found.append(x.astype(jnp.bfloat16).astype(jnp.float32))
    x = x - found[-1]
  return [*found, x]


def _heads_first(x, real, missing):
  """[batch, heads, length, ..] with 0 where no token is."""
  if real is not None:
    x = jnp.where(real, x, jnp.zeros((), x.dtype))
  x = jnp.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0)))
  return jnp.swapaxes(x, 1, 2)


def _relations(documents, chunk, reverse):
  """What chunks and positions have to do with the state of one way.

  Returns:
    goes_on [batch * chunks] int32: whether all of a chunk and the state before
    it are of one document; row [batch, 1, length] int32 documents; columns
    [batch, length, 3] int32: documents, whether the position's is the state's,
    whether it is the next state's.
  """
  chunks = documents.reshape(documents.shape[0], -1, chunk)
  leaves = chunks[:, :, 0 if reverse else -1]
  if reverse:
    held = jnp.concatenate([leaves[:, 1:], chunks[:, -1:, -1]], 1)
  else:
    held = jnp.concatenate([chunks[:, :1, 0], leaves[:, :-1]], 1)
  columns = [chunks, chunks == held[..., None], chunks == leaves[..., None]]
  columns = jnp.stack([x.astype(jnp.int32) for x in columns], -1)
  return (
    (held == leaves).astype(jnp.int32).reshape(-1),
    documents[:, None],
    columns.reshape(*documents.shape, 3),
  )


def _call(static, name, chunk, arrays, documents, add, dtype, way):
  """One launch over (batch, groups of heads, chunks); `add` comes on top."""
  a, b, c = arrays
  batch, heads, length, channels = c.shape
  chunks = length // chunk
  group = max(n for n in range(1, static.tiles.heads + 1) if heads % n == 0)
  place = lambda i: chunks - 1 - i if way.reverse else i
  wide = lambda x: pl.BlockSpec(
    (None, group, chunk, x.shape[3]), lambda n, h, i, *_: (n, h, place(i), 0)
  )
  inputs, specs = dict(a=a, b=b, c=c), [wide(a), wide(b), wide(c)]
  if add is not None:
    inputs["before"] = add
    specs.append(wide(add))
  scalars = []
  if documents is not None:
    goes_on, row, columns = _relations(documents, chunk, way.reverse)
    scalars.append(goes_on)
    inputs |= dict(row=row, columns=columns)
    specs += [
      pl.BlockSpec((None, 1, chunk), lambda n, h, i, *_: (n, 0, place(i))),
      pl.BlockSpec((None, chunk, 3), lambda n, h, i, *_: (n, place(i), 0)),
    ]
  out = jax.ShapeDtypeStruct(c.shape, dtype)
  names = (*["goes_on"][: len(scalars)], *inputs, "out", "state")
  kernel = functools.partial(_kernel, way=way, chunks=chunks, place=place)
  width = a.shape[3]
  moved = sum(x.size * x.dtype.itemsize for x in (*inputs.values(), out))
  per_row = 2 * width * channels + chunk * (width + channels)
  return pl.pallas_call(
    lambda *refs: kernel(dict(zip(names, refs, strict=True))),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=len(scalars),
      grid=(batch, heads // group, chunks),
      in_specs=specs,
      out_specs=wide(out),
      scratch_shapes=[pltpu.VMEM((group, width, channels), jnp.float32)],
    ),
    out_shape=out,
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel", "arbitrary")
    ),
    cost_estimate=pl.CostEstimate(
      flops=2 * batch * heads * length * per_row,
      transcendentals=0,
      bytes_accessed=moved,
    ),
    interpret=static.interpret,
    name=f"linear_attention_{name}" + ("" if add is None else "_right"),
  )(*scalars, *inputs.values())


def _kernel(refs, *, way, chunks, place):
  """A chunk of some heads; `refs` by name, see `_call`."""
  number = pl.program_id(2)

  @pl.when(number == 0)
  def _():
    refs["state"][...] = jnp.zeros_like(refs["state"])

  goes_on = None
  if "goes_on" in refs:
    here = pl.program_id(0) * chunks + place(number)
    goes_on = refs["goes_on"][here].astype(jnp.float32)

  def step(head, carry):
    _head(refs, head, goes_on, way)
    return carry

  lax.fori_loop(0, refs["a"].shape[0], step, 0)


def _head(refs, head, goes_on, way):
  a, b, c = (refs[name][head] for name in "abc")
  state, packed = refs["state"][head], goes_on is not None
  out = _dot(a, state, 1, 0)
  if packed:
    out = jnp.where(refs["columns"][:, 1:2] > 0, out, 0.0)
  if way.scores != "none":
    scores = _seen(refs, _dot(a, b, 1, 1), way)
    out += _dot(scores, c, 1, 0)
  if "before" in refs:
    out += refs["before"][head]
  refs["out"][head] = out.astype(refs["out"].dtype)
  if packed:
    own = refs["columns"][:, 2:3] > 0
    b = jnp.where(own, b.astype(jnp.float32), 0.0).astype(b.dtype)
    state *= goes_on
  refs["state"][head] = state + _dot(b, c, 0, 0)


def _seen(refs, scores, way):
  """Scores of what the rows of a chunk see in it, 0 elsewhere."""
  seen = None
  if "row" in refs:
    seen = refs["columns"][:, 0:1] == refs["row"][...]
  if way.scores == "behind":
    row, column = (
      lax.broadcasted_iota(jnp.int32, scores.shape, n) for n in (0, 1)
    )
    behind = column >= row if way.reverse else column <= row
    seen = behind if seen is None else seen & behind
  return scores if seen is None else jnp.where(seen, scores, 0.0)


def _dot(a, b, a_axis, b_axis):
  """A product in float32.

  bfloat16 factors go in as they are; against one, a float32 factor (the state,
  scores) goes in as the sum of two; two float32 factors with all their bits.
  """
  if a.dtype == b.dtype:
    return _product_of(a, b, a_axis, b_axis)
  if a.dtype == jnp.float32:
    high, low = _halves(a)
    return _product_of(high, b, a_axis, b_axis) + _product_of(
      low, b, a_axis, b_axis
    )
  high, low = _halves(b)
  return _product_of(a, high, a_axis, b_axis) + _product_of(
    a, low, a_axis, b_axis
  )


def _halves(x):
  high = x.astype(jnp.bfloat16)
  return high, (x - high.astype(jnp.float32)).astype(jnp.bfloat16)


def _product_of(a, b, a_axis, b_axis):
  exact = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
  return lax.dot_general(
    a,
    b,
    (((a_axis,), (b_axis,)), ((), ())),
    precision=exact,
    preferred_element_type=jnp.float32,
  )
