"""The forward kernel: one block of queries meets its blocks of keys in turn.

The online softmax of Milakov & Gimelshein (arXiv:1805.02867) over tiles, as in
FlashAttention (Dao et al., arXiv:2205.14135).
"""

import jax.numpy as jnp
from jax.experimental import pallas as pl

from pallas_kernels.flash_attention.mosaic_tpu import dots, scores, tiles
from pallas_kernels.flash_attention.mosaic_tpu.calls import (
  Input,
  Output,
  both,
  call,
  schedule,
  when,
)

# Hidden scores are -inf and the running maximum is finite: no inf - inf.
_LOWEST = float(jnp.finfo(jnp.float32).min)
# The lse of a row that sees no key: exp(score - lse) is 0 for any score.
EMPTY = 1e30


def forward(static, operands):
  """(out [batch, queries, heads, value_dim], lse [batch, heads, queries])."""
  shape = tiles.shape_of(static, operands)
  plan = schedule(static, operands, shape, by_query=True)
  rules = scores.scores_of(static, operands)
  q, k = shape.padded_queries, shape.padded_keys
  found = call(
    _kernel(shape, plan, rules),
    name="flash_attention_forward",
    grid=(shape.batch, shape.heads, shape.q_blocks, shape.k_blocks),
    parallel=3,
    place=_place(plan),
    inputs=_inputs(shape, operands) | rules.inputs(shape, operands),
    outputs={
      "out": Output(
        (shape.batch, shape.heads, shape.value_dim, q),
        operands.query.dtype,
        (None, None, shape.value_dim, shape.block_q),
        lambda p: (p.batch, p.head, 0, p.query),
      ),
      "lse": Output(
        (shape.batch, shape.heads, 1, q),
        jnp.float32,
        (None, None, 1, shape.block_q),
        lambda p: (p.batch, p.head, 0, p.query),
      ),
    },
    scratch={
      "total": (shape.value_dim, shape.block_q),
      "highest": (1, shape.block_q),
      "sum": (1, shape.block_q),
    },
    scalars=plan.prefetch,
    cost=_cost(shape, q * k, operands.query.dtype),
    interpret=static.interpret,
  )
  out = jnp.transpose(found["out"][..., : shape.queries], (0, 3, 1, 2))
  return out, found["lse"][:, :, 0, : shape.queries]


def _inputs(shape, operands):
  segments = operands.key_segments
  key = tiles.blank(operands.key, segments)
  value = tiles.blank(operands.value, segments)
  query = tiles.blank(operands.query, operands.query_segments)
  return {
    "query": query_input(shape, query),
    "key": Input(
      tiles.features_last(key, shape.padded_keys),
      (None, None, shape.block_k, shape.head_dim),
      lambda p: (p.batch, shape.key_head(p.head), p.key, 0),
    ),
    "value": Input(
      tiles.positions_last(value, shape.padded_keys),
      (None, None, shape.value_dim, shape.block_k),
      lambda p: (p.batch, shape.key_head(p.head), 0, p.key),
    ),
  }


def query_input(shape, array) -> Input:
  """[batch, queries, heads, dim] as blocks [dim, block_q]."""
  return Input(
    tiles.positions_last(array, shape.padded_queries),
    (None, None, array.shape[3], shape.block_q),
    lambda p: (p.batch, p.head, 0, p.query),
  )


def _place(plan):
  def place(ids, scalars):
    batch, head, query, step = ids
    key = plan.block(scalars, batch, query, step)
    return tiles.Place(batch, head, query, key)

  return place


def _kernel(shape, plan, rules):
  place_of = _place(plan)

  def kernel(ref, scalars, ids):
    batch, _, query, step = ids
    place = place_of(ids, scalars)
    tile = tiles.Tile(ref, place, shape)

    @pl.when(step == 0)
    def _():
      ref["total"][...] = jnp.zeros_like(ref["total"])
      ref["highest"][...] = jnp.full_like(ref["highest"], _LOWEST)
      ref["sum"][...] = jnp.zeros_like(ref["sum"])

    visited, full = plan.visited(scalars, batch, query, step)
    full = scores.whole(shape, place, full)
    when(both(visited, full), lambda: _step(tile, rules, masked=False))
    if full is not True:
      masked = ~full if visited is True else visited & ~full
      when(masked, lambda: _step(tile, rules, masked=True))

    @pl.when(step == shape.k_blocks - 1)
    def _():
      _finish(ref, rules)

  return kernel


def _step(tile, rules, masked: bool):
  """Takes one block of keys in."""
  ref = tile.ref
  logits, _ = rules.logits(tile, ref["key"][...], ref["query"][...], masked)
  highest = ref["highest"][...]
  higher = jnp.maximum(highest, jnp.max(logits, 0, keepdims=True))
  weights = jnp.exp(logits - higher)
  shrink = jnp.exp(highest - higher)
  ref["highest"][...] = higher
  ref["sum"][...] = ref["sum"][...] * shrink + jnp.sum(
    weights, 0, keepdims=True
  )
  (kept,) = rules.drop(tile, weights)
  value = ref["value"][...]
  ref["total"][...] = ref["total"][...] * shrink + dots.dot(
    value, kept.astype(value.dtype), 1, 0
  )


def _finish(ref, rules):
  """Writes a block of queries."""
  total = ref["sum"][...]
  empty = total == 0.0
  safe = jnp.where(empty, 1.0, total)
  out = ref["total"][...] * (rules.boost / safe)
  ref["out"][...] = out.astype(ref["out"].dtype)
  ref["lse"][...] = jnp.where(empty, EMPTY, ref["highest"][...] + jnp.log(safe))


def _cost(shape, pairs: int, dtype) -> pl.CostEstimate:
  """What the whole square costs: ranges are not known to the compiler."""
  heads = shape.batch * shape.heads
  size = jnp.dtype(dtype).itemsize
  dims = shape.head_dim + shape.value_dim
  return pl.CostEstimate(
    flops=2 * heads * pairs * dims,
    transcendentals=heads * pairs,
    bytes_accessed=size
    * dims
    * shape.batch
    * (shape.heads * shape.queries + shape.key_heads * shape.keys),
  )
