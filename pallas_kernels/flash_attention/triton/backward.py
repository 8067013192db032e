"""Backward pass: a kernel over queries, one over keys, and `shared`'s.

Each recomputes the probabilities from the log-sum-exp. All sums have one order:
the result is deterministic.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from pallas_kernels.flash_attention.triton import (
  gradients,
  scores,
  shared,
  sinks,
  tables,
  tiles,
  visits,
)
from pallas_kernels.flash_attention.triton.problem import (
  Problem,
  describe,
  padded,
)


def backward(static, operands, out, lse, grad_out):
  """See `differentiable.differentiable`."""
  problem, blocks = describe(static, operands)
  delta = jnp.einsum(
    "bqhd,bqhd->bhq",
    out.astype(jnp.float32),
    grad_out.astype(jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )
  inputs = scores.in_base_2(operands) | {
    "lse": lse,
    "delta": delta,
    "grad": grad_out.astype(problem.dtype),
  }
  found = _of_queries(problem.at(blocks.dq), operands, inputs)
  found |= _of_keys(problem.at(blocks.dkv), operands, inputs)
  found |= shared.gradients_of(problem.at(blocks.shared), operands, inputs)
  if "theta" in found:
    found["theta"] = sinks.theta_gradient(found["theta"], operands.query_first)
  for name in found.keys() & {"c2p", "p2c"}:
    table, buckets = inputs[name], inputs[f"{name}_buckets"]
    found[name] = tables.gradient(problem, name, found[name], table, buckets)
  return found


def _of_queries(problem, operands, inputs):
  """Gradients of the query and of what belongs to a query."""
  sunk = sinks.of_queries(operands)
  outputs = {"query": visits.Output(operands.query.shape, problem.dtype)}
  for sink in sunk:
    outputs |= sink.outputs(problem, transposed=False)
  return visits.launch(
    functools.partial(_query_kernel, problem, sunk),
    problem,
    name="attention_backward_queries",
    grid=(problem.query_blocks, problem.heads, problem.batch),
    inputs=inputs | visits.ranges(problem, operands, "keys"),
    outputs=outputs,
    matmuls=3,
  )


def _query_kernel(problem: Problem, sunk, refs, outs):
  owned, head, batch = (pl.program_id(axis) for axis in range(3))
  key_head = head // problem.group
  rows = gradients.Rows(problem, refs, batch, head, owned, masked=True)

  def step(block, carry, masked):
    acc, carries = carry
    columns = gradients.Columns(
      problem, refs, batch, key_head, block, masked=masked
    )
    tile = tiles.Tile(problem, batch, head, rows.side, columns.side)
    found = gradients.of_tile(refs, tile, rows, columns, masked=masked)
    carries = tuple(
      sink.take(outs, tile, found, carried)
      for sink, carried in zip(sunk, carries, strict=True)
    )
    return acc + problem.dot(found.ds, columns.k), carries

  channels = padded(problem.head_dim)
  start = (
    jnp.zeros((problem.launch.block_q, channels), jnp.float32),
    tuple(sink.start(problem) for sink in sunk),
  )
  acc, carries = visits.visit(problem, refs, batch, owned, "keys", step, start)
  rows.side.store(outs["query"], batch, head, acc * problem.static.scale)
  for sink, carried in zip(sunk, carries, strict=True):
    sink.finish(
      outs, tiles.Tile(problem, batch, head, rows.side, None), carried
    )

  def skip(block):
    side = tiles.keys(problem, {}, batch, block)
    tile = tiles.Tile(problem, batch, head, rows.side, side)
    for sink in sunk:
      sink.skip(outs, tile)

  if sunk:
    visits.skip(problem, refs, batch, owned, "keys", skip)


def _of_keys(problem, operands, inputs):
  """Gradients of key and value and of what belongs to a key."""
  sunk = sinks.of_keys(operands)
  outputs = {
    "key": visits.Output(operands.key.shape, problem.dtype),
    "value": visits.Output(operands.value.shape, problem.dtype),
  }
  for sink in sunk:
    outputs |= sink.outputs(problem, transposed=True)
  return visits.launch(
    functools.partial(_key_kernel, problem, sunk),
    problem,
    name="attention_backward_keys",
    grid=(problem.key_blocks, problem.key_heads, problem.batch),
    inputs=inputs | visits.ranges(problem, operands, "queries"),
    outputs=outputs,
    matmuls=4,
  )


def _key_kernel(problem: Problem, sunk, refs, outs):
  owned, key_head, batch = (pl.program_id(axis) for axis in range(3))
  columns = gradients.Columns(
    problem, refs, batch, key_head, owned, masked=True
  )

  def of_head(member, carry):
    head = key_head * problem.group + member

    def step(block, carry, masked):
      dk, dv = carry
      rows = gradients.Rows(problem, refs, batch, head, block, masked=masked)
      tile = tiles.Tile(problem, batch, head, rows.side, columns.side, True)
      found = gradients.of_tile(refs, tile, rows, columns, masked=masked)
      for sink in sunk:
        sink.take(outs, tile, found, ())
      dk = dk + problem.dot(found.ds, rows.q)
      return dk, dv + problem.dot(found.kept, rows.grad)

    def skip(block):
      side = tiles.queries(problem, {}, batch, head, block)
      tile = tiles.Tile(problem, batch, head, side, columns.side, True)
      for sink in sunk:
        sink.skip(outs, tile)

    if sunk:
      visits.skip(problem, refs, batch, owned, "queries", skip)
    return visits.visit(problem, refs, batch, owned, "queries", step, carry)

  rows = problem.launch.block_k
  carry = (
    jnp.zeros((rows, padded(problem.head_dim)), jnp.float32),
    jnp.zeros((rows, padded(problem.value_dim)), jnp.float32),
  )
  if problem.group == 1:
    dk, dv = of_head(0, carry)
  else:
    dk, dv = jax.lax.fori_loop(0, problem.group, of_head, carry)
  columns.side.store(outs["key"], batch, key_head, dk * problem.static.scale)
  columns.side.store(outs["value"], batch, key_head, dv * problem.keep_factor)
