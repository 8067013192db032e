"""Forward pass: online softmax over blocks of keys (arXiv:2307.08691)."""

import functools
import math

import jax.numpy as jnp
from jax.experimental import pallas as pl

from pallas_kernels.flash_attention.triton import scores, tiles, visits
from pallas_kernels.flash_attention.triton.problem import (
  Problem,
  describe,
  padded,
)

# Below every score, yet finite: a row that has seen nothing is no NaN.
_LOWEST = -1e30


def forward(static, operands):
  """See `differentiable.differentiable`."""
  problem, _ = describe(static, operands)
  out_shape = (*operands.query.shape[:3], problem.value_dim)
  lse_shape = (problem.batch, problem.heads, problem.queries)
  found = visits.launch(
    functools.partial(_kernel, problem),
    problem,
    name="attention_forward",
    grid=(problem.query_blocks, problem.heads, problem.batch),
    inputs=scores.in_base_2(operands)
    | visits.ranges(problem, operands, "keys"),
    outputs={
      "out": visits.Output(out_shape, problem.dtype),
      "lse": visits.Output(lse_shape, jnp.float32),
    },
    matmuls=2,
  )
  return found["out"], found["lse"]


def _kernel(problem: Problem, refs, outs):
  block, head, batch = (pl.program_id(axis) for axis in range(3))
  queries = tiles.queries(problem, refs, batch, head, block)
  q = queries.matrix(refs["query"], batch, head)
  key_head = head // problem.group

  def step(block, carry, masked):
    acc, top, total = carry
    keys = tiles.keys(problem, refs, batch, block, masked=masked)
    tile = tiles.Tile(problem, batch, head, queries, keys)
    k = keys.matrix(refs["key"], batch, key_head, clean=masked)
    found = scores.scores(refs, tile, q, k)
    if masked:
      found = found.masked(tile.visible())
    new = jnp.maximum(top, jnp.max(found.raw, axis=1) * found.factor)
    p = problem.exp2(problem.fma(found.raw, found.factor, -new[:, None]))
    shrink = problem.exp2(top - new)
    total = total * shrink + jnp.sum(p, axis=1)
    if problem.static.dropout_rate > 0.0:
      p = jnp.where(scores.kept(tile), p, 0.0)
    v = keys.matrix(refs["value"], batch, key_head, clean=masked)
    return acc * shrink[:, None] + problem.dot(p, v), new, total

  rows = problem.launch.block_q
  start = (
    jnp.zeros((rows, padded(problem.value_dim)), jnp.float32),
    jnp.full((rows,), _LOWEST, jnp.float32),
    jnp.zeros((rows,), jnp.float32),
  )
  acc, top, total = visits.visit(
    problem, refs, batch, block, "keys", step, start
  )
  blind = total == 0.0
  inverse = problem.keep_factor / jnp.where(blind, 1.0, total)
  queries.store(outs["out"], batch, head, acc * inverse[:, None])
  lse = top * math.log(2.0) + jnp.log(jnp.where(blind, 1.0, total))
  lse = jnp.where(blind, 0.0, lse)
  queries.store_vector(outs["lse"], batch, head, value=lse)
