"""Forward pass: output and log-sum-exp.

After J. Shah et al., "FlashAttention-3: Fast and accurate attention with
asynchrony and low-precision" (2024, arXiv:2407.08608): one warpgroup copies
keys and values into a ring of buffers, two compute 64 queries each and take
turns, so that one multiplies while the other is at its softmax.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.flash_attention.mosaic_gpu import machine, walk
from pallas_kernels.flash_attention.mosaic_gpu.blocks import BLOCK, ROWS
from pallas_kernels.flash_attention.mosaic_gpu.problem import (
  Problem,
  describe,
  whole,
)
from pallas_kernels.flash_attention.mosaic_gpu.tiles import Tile

# Below every score, and finite: a row that sees no key is not NaN then.
_LOWEST = -0.7 * float(np.finfo(np.float32).max)


def forward(static, operands):
  """See `differentiable.differentiable`."""
  problem = describe(static, operands)
  block_k = problem.blocks.forward_k
  inputs = {
    "query": whole(operands.query, operands.query_segments, BLOCK),
    "key": whole(operands.key, operands.key_segments, block_k),
    "value": whole(operands.value, operands.key_segments, block_k),
    **problem.id_inputs(operands, BLOCK, block_k),
    **problem.ranges("keys", block_k, operands),
  }
  if problem.slopes:
    inputs["slopes"] = operands.slopes
  length = inputs["query"].shape[1]
  leading = (problem.batch, length, problem.heads)
  outputs = {
    "out": jax.ShapeDtypeStruct((*leading, problem.value_dim), problem.dtype),
    "lse": jax.ShapeDtypeStruct(
      (problem.batch, problem.heads, length), jnp.float32
    ),
  }
  found = machine.launch(
    functools.partial(_kernel, problem),
    name="attention_forward",
    interpret=static.interpret,
    grid=(problem.heads, length // BLOCK, problem.batch),
    inputs=inputs,
    outputs=outputs,
    scratch=_scratch(problem),
  )
  queries = problem.queries
  return found["out"][:, :queries], found["lse"][:, :, :queries]


def _scratch(problem: Problem) -> dict:
  stages, block_k = problem.blocks.stages, problem.blocks.forward_k
  dims, dtype = (problem.head_dim, problem.value_dim), problem.dtype
  ids = 1 if problem.segments else 0
  memory = functools.partial(machine.matrix_memory, dtype=dtype)
  scratch = {
    "q": memory(machine.COMPUTING, ROWS, dims[0]),
    "k": memory(stages, block_k, dims[0]),
    "v": memory(stages, block_k, dims[1]),
    "o": memory(machine.COMPUTING, ROWS, dims[1]),
    "l": plgpu.SMEM((machine.COMPUTING, ROWS), jnp.float32),
    "q_ready": plgpu.Barrier(
      num_arrivals=1 + ids, num_barriers=machine.COMPUTING
    ),
    "turn": plgpu.Barrier(num_arrivals=1, num_barriers=machine.COMPUTING),
    **walk.barriers(stages, {"k": 1 + ids, "v": 1}),
  }
  if problem.segments:
    scratch["qi"] = plgpu.SMEM((machine.COMPUTING, ROWS), jnp.int32)
    scratch["ki"] = plgpu.SMEM((stages, block_k), jnp.int32)
  return scratch


def _kernel(problem: Problem, refs):
  head, owned, batch = (jax.lax.axis_index(name) for name in machine.AXES)
  bounds = problem.bounds(
    refs, batch, owned, problem.keys, problem.blocks.forward_k
  )
  place = batch, head, owned
  machine.roles(
    lambda n: _compute(problem, refs, place, bounds, n),
    lambda: _copy(problem, refs, place, bounds),
  )


def _copy(problem, refs, place, bounds):
  batch, head, owned = place
  copy = plgpu.copy_gmem_to_smem
  for n in range(machine.COMPUTING):
    rows = pl.ds(owned * BLOCK + n * ROWS, ROWS)
    ready = refs["q_ready"].at[n]
    copy(refs["query"].at[batch, rows, head], refs["q"].at[n], ready)
    if problem.segments:
      copy(refs["q_ids"].at[batch, rows], refs["qi"].at[n], ready)
  walk.copy_keys(problem, refs, place, bounds, problem.blocks.forward_k)


def _compute(problem, refs, place, bounds, n):
  batch, head, owned = place
  block_k, unit = problem.blocks.forward_k, problem.machine
  low = machine.int32(bounds[0])
  first_query = owned * BLOCK + n * ROWS
  slope = refs["slopes"][head] if problem.slopes else None

  def step(block, carry, masked):
    slot = walk.slot_of(block - low, problem.blocks.stages)
    tile = Tile(problem, first_query, block * block_k, (ROWS, block_k))
    products = _products(refs, unit, n, slot)
    ids = (refs["qi"].at[n], refs["ki"].at[slot]) if problem.segments else ()
    x, factor = tile.logits(products, slope)
    if masked:
      x = tile.hide(x, *ids)
    plgpu.barrier_arrive(refs["k_free"].at[slot])
    weights, carry = _soften(x, factor, carry)
    total, *rest = carry
    plgpu.barrier_wait(refs["v_ready"].at[slot])
    total = unit.add_product(
      total, weights.astype(problem.dtype), refs["v"].at[slot]
    )
    plgpu.barrier_arrive(refs["v_free"].at[slot])
    return total, *rest

  start = (
    unit.zeros((ROWS, problem.value_dim)),
    unit.per_row(ROWS, _LOWEST),
    unit.per_row(ROWS, 0.0),
  )
  plgpu.barrier_wait(refs["q_ready"].at[n])
  pl.when(n == 1)(lambda: plgpu.barrier_arrive(refs["turn"].at[0]))
  carry = walk.visit(bounds, step, start)
  pl.when(n == 0)(lambda: plgpu.barrier_wait(refs["turn"].at[0]))
  _finish(problem, refs, (batch, head, first_query), n, carry)


def _products(refs, unit, n, slot):
  """query key^T, of the warpgroup whose turn it is."""
  plgpu.barrier_wait(refs["k_ready"].at[slot])
  plgpu.barrier_wait(refs["turn"].at[n])
  return unit.product(
    refs["q"].at[n],
    refs["k"].at[slot],
    transpose_b=True,
    issued=lambda: plgpu.barrier_arrive(refs["turn"].at[1 - n]),
  )


def _soften(x, factor, carry):
  """(weights, carry): online softmax to base 2, scores being x * factor."""
  total, highest, mass = carry
  new = jnp.maximum(highest, jnp.max(x, axis=1) * factor)
  shrink = jnp.exp2(highest - new)
  weights = jnp.exp2(x * factor - machine.rows(new, x.shape))
  mass = mass * shrink + jnp.sum(weights, axis=1)
  total = total * machine.rows(shrink, total.shape)
  return weights, (total, new, mass)


def _finish(problem, refs, place, n, carry):
  """Writes what a warpgroup found for its queries."""
  batch, head, first_query = place
  total, highest, mass = carry
  mass = jnp.where(mass > 0.0, mass, 1.0)  # of rows that see no key
  out = total * machine.rows(1.0 / mass, total.shape)
  refs["o"].at[n][...] = out.astype(problem.dtype)
  refs["l"].at[n][...] = highest * math.log(2.0) + jnp.log(mass)
  plgpu.commit_smem()
  rows = pl.ds(first_query, ROWS)
  plgpu.copy_smem_to_gmem(refs["o"].at[n], refs["out"].at[batch, rows, head])
  plgpu.copy_smem_to_gmem(refs["l"].at[n], refs["lse"].at[batch, head, rows])
  plgpu.wait_smem_to_gmem(0)
