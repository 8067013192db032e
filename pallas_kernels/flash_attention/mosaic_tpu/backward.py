"""The backward kernel: one block of keys meets its blocks of queries in turn.

One pass gives every gradient from five matrix products a tile. Gradients of
keys are complete after a block's last step; those of queries add up in fast
memory, for all queries of a head, until the head's last step.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from pallas_kernels.flash_attention.mosaic_tpu import dots, scores, tiles
from pallas_kernels.flash_attention.mosaic_tpu.calls import (
  Input,
  Output,
  call,
  schedule,
)
from pallas_kernels.flash_attention.mosaic_tpu.dense_gradient import (
  dense_gradient,
)
from pallas_kernels.flash_attention.mosaic_tpu.forward import (
  EMPTY,
  query_input,
)


def backward(static, operands, out, lse, grad_out) -> dict:
  """Gradients by operand, see `differentiable`."""
  shape = tiles.shape_of(static, operands, backward=True)
  plan = schedule(static, operands, shape, by_query=False)
  rules = scores.scores_of(static, operands)
  inputs = backward_inputs(shape, operands, out, lse, grad_out)
  inputs |= rules.inputs(shape, operands)
  outputs = _outputs(shape, operands) | rules.gradients(shape)
  found = call(
    _kernel(shape, plan, rules, outputs),
    name="flash_attention_backward",
    grid=(shape.batch, shape.heads, shape.k_blocks, shape.q_blocks),
    parallel=2,
    place=_place(plan),
    inputs=inputs,
    outputs=outputs,
    scratch={
      "query_sum": (shape.q_blocks, shape.head_dim, shape.block_q),
      "key_sum": (shape.block_k, shape.head_dim),
      "value_sum": (shape.block_k, shape.value_dim),
    },
    scalars=plan.prefetch,
    cost=_cost(shape, operands.query.dtype),
    interpret=static.interpret,
  )
  grads = _own(shape, found) | rules.finish(shape, found)
  if operands.dense is not None:
    grads["dense"] = dense_gradient(static, operands, shape, rules, inputs)
  return grads


def backward_inputs(shape, operands, out, lse, grad_out) -> dict:
  """Arrays by name that every backward kernel reads."""
  x, q = operands, shape.padded_queries
  grad_out = tiles.blank(grad_out, x.query_segments)
  wide = grad_out.astype(jnp.float32) * out.astype(jnp.float32)
  delta = jnp.swapaxes(jnp.sum(wide, -1), 1, 2)
  key = tiles.blank(x.key, x.key_segments)
  value = tiles.blank(x.value, x.key_segments)
  query = tiles.blank(x.query, x.query_segments)

  def keys(array):
    return Input(
      tiles.features_last(array, shape.padded_keys),
      (None, None, shape.block_k, array.shape[3]),
      lambda p: (p.batch, shape.key_head(p.head), p.key, 0),
    )

  def rows(array, fill):
    return Input(
      tiles.pad(array, 2, q, fill)[:, :, None],
      (None, None, 1, shape.block_q),
      lambda p: (p.batch, p.head, 0, p.query),
    )

  return {
    "query": query_input(shape, query),
    "grad_out": query_input(shape, grad_out.astype(x.query.dtype)),
    "key": keys(key),
    "value": keys(value),
    "lse": rows(lse, EMPTY),
    "delta": rows(delta, 0.0),
  }


def _outputs(shape, operands):
  # Heads that share a key head are summed by XLA, in float32.
  dtype = operands.key.dtype if shape.group == 1 else jnp.float32

  def keys(dim):
    return Output(
      (shape.batch, shape.heads, shape.padded_keys, dim),
      dtype,
      (None, None, shape.block_k, dim),
      lambda p: (p.batch, p.head, p.key, 0),
    )

  sizes = (shape.q_blocks, shape.head_dim, shape.block_q)
  return {
    "d_query": Output(
      (shape.batch, shape.heads, *sizes),
      operands.query.dtype,
      (None, None, *sizes),
      lambda p: (p.batch, p.head, 0, 0, 0),
    ),
    "d_key": keys(shape.head_dim),
    "d_value": keys(shape.value_dim),
  }


def _own(shape, found):
  """The gradients of query, key and value."""
  query = jnp.transpose(found["d_query"], (0, 2, 4, 1, 3))
  query = query.reshape(shape.batch, -1, shape.heads, shape.head_dim)

  def keys(array):
    array = array[:, :, : shape.keys]
    if shape.group > 1:
      split = (shape.batch, shape.key_heads, shape.group, *array.shape[2:])
      array = jnp.sum(array.reshape(split), 2)
    return jnp.swapaxes(array, 1, 2)

  return {
    "query": query[:, : shape.queries],
    "key": keys(found["d_key"]),
    "value": keys(found["d_value"]),
  }


def _place(plan):
  def place(ids, scalars):
    batch, head, key, step = ids
    query = plan.block(scalars, batch, key, step)
    return tiles.Place(batch, head, query, key)

  return place


def _kernel(shape, plan, rules, outputs):
  place_of = _place(plan)
  of_head = ["query_sum", *(n for n, x in outputs.items() if x.zero == "head")]
  of_key = ["key_sum", "value_sum"]
  of_key += [n for n, x in outputs.items() if x.zero == "key"]

  def kernel(ref, scalars, ids):
    batch, _, key, step = ids
    place = place_of(ids, scalars)
    tile = tiles.Tile(ref, place, shape)

    @pl.when((key == 0) & (step == 0))
    def _():
      for name in of_head:
        _clear(ref[name], shape.q_blocks)

    @pl.when(step == 0)
    def _():
      for name in of_key:
        ref[name][...] = jnp.zeros_like(ref[name])

    visited, full = plan.visited(scalars, batch, key, step)
    scores.visit(
      rules, tile, visited, full, lambda masked: _step(tile, rules, masked)
    )

    @pl.when(step == shape.q_blocks - 1)
    def _():
      _finish_keys(ref, rules)

    @pl.when((key == shape.k_blocks - 1) & (step == shape.q_blocks - 1))
    def _():
      _finish_queries(ref, rules)

  return kernel


def _step(tile, rules, masked: bool):
  """Takes one block of queries in."""
  ref, query = tile.ref, tile.place.query
  found = rules.score_gradient(tile, masked)
  rules.accumulate(tile, found)
  dtype = ref["key"].dtype
  grad = found.scores.astype(dtype)
  ref["value_sum"][...] += dots.dot(
    found.kept.astype(dtype), ref["grad_out"][...], 1, 1
  )
  ref["key_sum"][...] += dots.dot(grad, ref["query"][...], 1, 1)
  ref["query_sum"][query] += dots.dot(ref["key"][...], grad, 0, 0)


def _clear(ref, blocks: int):
  """Zeroes what belongs to a head, in a loop where it grows with its rows."""
  if ref.shape[0] % blocks:
    ref[...] = jnp.zeros_like(ref)
    return
  size = ref.shape[0] // blocks

  def clear(n, carry):
    ref[pl.ds(pl.multiple_of(n * size, size), size)] = jnp.zeros(
      (size, *ref.shape[1:]), ref.dtype
    )
    return carry

  jax.lax.fori_loop(0, blocks, clear, 0)


def _finish_queries(ref, rules):
  """Writes a head's queries."""

  def finish(n, carry):
    grad = ref["query_sum"][n] * rules.static.scale
    ref["d_query"][n] = grad.astype(ref["d_query"].dtype)
    return carry

  jax.lax.fori_loop(0, ref["query_sum"].shape[0], finish, 0)


def _finish_keys(ref, rules):
  """Writes a block of keys."""
  key = ref["key_sum"][...] * rules.static.scale
  ref["d_key"][...] = key.astype(ref["d_key"].dtype)
  value = ref["value_sum"][...] * rules.boost
  ref["d_value"][...] = value.astype(ref["d_value"].dtype)


def _cost(shape, dtype) -> pl.CostEstimate:
  """What the whole square costs: ranges are not known to the compiler."""
  heads = shape.batch * shape.heads
  pairs = heads * shape.padded_queries * shape.padded_keys
  dims = shape.head_dim + shape.value_dim
  return pl.CostEstimate(
    flops=2 * pairs * (3 * shape.head_dim + 2 * shape.value_dim),
    transcendentals=pairs,
    bytes_accessed=2
    * jnp.dtype(dtype).itemsize
    * dims
    * heads
    * (shape.queries + shape.keys),
  )
