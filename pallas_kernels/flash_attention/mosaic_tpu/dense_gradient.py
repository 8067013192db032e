"""The gradient of a dense bias, summed over what shares it inside a kernel.

A tile of the gradient stays in fast memory while every (batch row, head) that
shares it passes by: the gradients of all scores are never stored. Two matrix
products are done again for it.
"""

import jax.numpy as jnp
from jax.experimental import pallas as pl

from pallas_kernels.flash_attention.mosaic_tpu import scores, tiles
from pallas_kernels.flash_attention.mosaic_tpu.calls import (
  Output,
  both,
  call,
  schedule,
  when,
)


def dense_gradient(static, operands, shape, rules, inputs):
  """[1 or batch, 1 or heads, queries, keys] in the bias's dtype.

  Args:
    static: the call's options.
    operands: the call's arrays.
    shape: the backward pass's.
    rules: the call's `Scores`.
    inputs: those of the backward pass, by name.
  """
  rows, heads = operands.dense.shape[:2]
  plan = schedule(static, operands, shape, by_query=True)
  place = _place(shape, rows, heads)
  sharing = (shape.batch // rows, shape.heads // heads)
  found = call(
    _kernel(shape, plan, rules, place, sharing),
    name="flash_attention_dense_gradient",
    grid=(rows, heads, shape.q_blocks, shape.k_blocks, *sharing),
    parallel=4,
    place=place,
    inputs=inputs,
    outputs={
      "d_dense": Output(
        (rows, heads, shape.padded_keys, shape.padded_queries),
        operands.dense.dtype,
        (None, None, shape.block_k, shape.block_q),
        lambda p: (
          0 if rows == 1 else p.batch,
          0 if heads == 1 else p.head,
          p.key,
          p.query,
        ),
      )
    },
    scratch={"grad_sum": (shape.block_k, shape.block_q)},
    scalars=plan.prefetch,
    cost=_cost(shape, operands),
    interpret=static.interpret,
  )
  grad = found["d_dense"][:, :, : shape.keys, : shape.queries]
  return jnp.swapaxes(grad, 2, 3)


def _place(shape, rows, heads):
  def place(ids, scalars):
    del scalars
    row, head, query, key, other_row, other_head = ids
    return tiles.Place(
      other_row if rows == 1 else row,
      other_head if heads == 1 else head,
      query,
      key,
    )

  return place


def _kernel(shape, plan, rules, place_of, sharing):
  def kernel(ref, scalars, ids):
    place = place_of(ids, scalars)
    tile = tiles.Tile(ref, place, shape)
    total, step = ref["grad_sum"], ids[4] * sharing[1] + ids[5]

    @pl.when(step == 0)
    def _():
      total[...] = jnp.zeros_like(total)

    def add(masked):
      total[...] += rules.score_gradient(tile, masked)[1]

    visited, full = plan.holds(scalars, place.batch, place.query, place.key)
    full = scores.whole(shape, place, full)
    when(both(visited, full), lambda: add(masked=False))
    if full is not True:
      masked = ~full if visited is True else visited & ~full
      when(masked, lambda: add(masked=True))

    @pl.when(step == sharing[0] * sharing[1] - 1)
    def _():
      ref["d_dense"][...] = total[...].astype(ref["d_dense"].dtype)

  return kernel


def _cost(shape, operands) -> pl.CostEstimate:
  """What the whole square costs."""
  pairs = shape.padded_queries * shape.padded_keys
  heads = shape.batch * shape.heads
  tile_bytes = operands.query.dtype.itemsize * (
    shape.head_dim + shape.value_dim
  )
  return pl.CostEstimate(
    flops=2 * heads * pairs * (shape.head_dim + shape.value_dim),
    transcendentals=heads * pairs,
    bytes_accessed=heads
    * pairs
    * tile_bytes
    * (shape.block_q + shape.block_k)
    // (shape.block_q * shape.block_k),
  )
