"""Gradients of the query and of ALiBi's slopes: a program per 128 queries."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.flash_attention.mosaic_gpu import machine, walk
from pallas_kernels.flash_attention.mosaic_gpu.blocks import BLOCK, ROWS
from pallas_kernels.flash_attention.mosaic_gpu.problem import Problem
from pallas_kernels.flash_attention.mosaic_gpu.tiles import Tile


def gradients(problem: Problem, operands, inputs: dict) -> dict:
  """{'query': gradient} and, if present, that of 'slopes'."""
  block_k = problem.blocks.dq_k
  shape = inputs["query"].shape
  outputs = {"dq": jax.ShapeDtypeStruct(shape, problem.dtype)}
  if problem.slopes:
    by_row = (problem.batch, problem.heads, shape[1])
    outputs["away"] = jax.ShapeDtypeStruct(by_row, jnp.float32)
  found = machine.launch(
    functools.partial(_kernel, problem),
    name="attention_backward_queries",
    interpret=problem.static.interpret,
    grid=(problem.heads, shape[1] // BLOCK, problem.batch),
    inputs=inputs | problem.ranges("keys", block_k, operands),
    outputs=outputs,
    scratch=_scratch(problem),
  )
  gradient = {"query": found["dq"][:, : problem.queries]}
  if problem.slopes:
    gradient["slopes"] = -jnp.sum(found["away"], axis=(0, 2))
  return gradient


def _scratch(problem: Problem) -> dict:
  stages, block_k = problem.blocks.stages, problem.blocks.dq_k
  dims, ids = (problem.head_dim, problem.value_dim), int(problem.segments)
  memory = functools.partial(machine.matrix_memory, dtype=problem.dtype)
  owned = (machine.COMPUTING, ROWS)
  scratch = {
    "q": memory(*owned, dims[0]),
    "do": memory(*owned, dims[1]),
    "l": plgpu.SMEM(owned, jnp.float32),
    "d": plgpu.SMEM(owned, jnp.float32),
    "k": memory(stages, block_k, dims[0]),
    "v": memory(stages, block_k, dims[1]),
    "q_ready": plgpu.Barrier(
      num_arrivals=4 + ids, num_barriers=machine.COMPUTING
    ),
    **walk.barriers(stages, {"k": 1 + ids, "v": 1}),
  }
  if problem.segments:
    scratch["qi"] = plgpu.SMEM(owned, jnp.int32)
    scratch["ki"] = plgpu.SMEM((stages, block_k), jnp.int32)
  return scratch


def _kernel(problem: Problem, refs):
  head, owned, batch = (jax.lax.axis_index(name) for name in machine.AXES)
  block_k = problem.blocks.dq_k
  bounds = problem.bounds(refs, batch, owned, problem.keys, block_k)
  place = batch, head, owned

  def copy():
    _copy_owned(problem, refs, place)
    walk.copy_keys(problem, refs, place, bounds, block_k)

  machine.roles(lambda n: _compute(problem, refs, place, bounds, n), copy)


def _copy_owned(problem, refs, place):
  batch, head, owned = place
  copy = plgpu.copy_gmem_to_smem
  for n in range(machine.COMPUTING):
    rows = pl.ds(owned * BLOCK + n * ROWS, ROWS)
    ready = refs["q_ready"].at[n]
    copy(refs["query"].at[batch, rows, head], refs["q"].at[n], ready)
    copy(refs["grad"].at[batch, rows, head], refs["do"].at[n], ready)
    copy(refs["lse"].at[batch, head, rows], refs["l"].at[n], ready)
    copy(refs["minus_delta"].at[batch, head, rows], refs["d"].at[n], ready)
    if problem.segments:
      copy(refs["q_ids"].at[batch, rows], refs["qi"].at[n], ready)


def _compute(problem, refs, place, bounds, n):
  batch, head, owned = place
  block_k, unit = problem.blocks.dq_k, problem.machine
  shape, low = (ROWS, block_k), machine.int32(bounds[0])
  first_query = owned * BLOCK + n * ROWS
  slope = refs["slopes"][head] if problem.slopes else None
  plgpu.barrier_wait(refs["q_ready"].at[n])
  lse, less = (unit.load_rows(refs[name].at[n]) for name in ("l", "d"))

  def step(block, carry, masked):
    slot = walk.slot_of(block - low, problem.blocks.stages)
    tile = Tile(problem, first_query, block * block_k, shape)
    k, v = refs["k"].at[slot], refs["v"].at[slot]
    plgpu.barrier_wait(refs["k_ready"].at[slot])
    x = unit.product(refs["q"].at[n], k, transpose_b=True)
    x, factor = tile.logits(x, slope)
    if masked:
      ids = (refs["qi"].at[n], refs["ki"].at[slot]) if problem.segments else ()
      x = tile.hide(x, *ids)
    p = jnp.exp2(x * factor - machine.rows(lse, shape))
    plgpu.barrier_wait(refs["v_ready"].at[slot])
    dp = unit.product(refs["do"].at[n], v, transpose_b=True)
    plgpu.barrier_arrive(refs["v_free"].at[slot])
    ds = p * (dp + machine.rows(less, shape))
    total, *sums = carry
    if problem.slopes:
      sums = _add_away(sums, p, ds, jnp.abs(tile.distance()))
    total = unit.add_product(total, ds.astype(problem.dtype), k)
    plgpu.barrier_arrive(refs["k_free"].at[slot])
    return total, *sums

  start = (unit.zeros((ROWS, problem.head_dim)),)
  if problem.slopes:
    start += (unit.per_row(ROWS, 0.0),) * 3
  total, *sums = walk.visit(bounds, step, start)
  # The warpgroup is done with its queries: their memory takes the results.
  refs["q"].at[n][...] = (total * problem.static.scale).astype(problem.dtype)
  if problem.slopes:
    away, error, weight = sums
    refs["l"].at[n][...] = away - error * weight
  plgpu.commit_smem()
  rows = pl.ds(first_query, ROWS)
  plgpu.copy_smem_to_gmem(refs["q"].at[n], refs["dq"].at[batch, rows, head])
  if problem.slopes:
    plgpu.copy_smem_to_gmem(refs["l"].at[n], refs["away"].at[batch, head, rows])
  plgpu.wait_smem_to_gmem(0)


def _add_away(sums, p, ds, away):
  """Three sums for each query, of which ALiBi's gradient is made.

  That of a slope is what is left of large terms that cancel: it would show
  that delta was made of an output rounded to 16 bits. dS of a row adds up to
  0, so that its sum tells delta's error, and `weight` what that error adds.
  """
  total = lambda x: jnp.sum(x, axis=1)
  terms = total(ds * away), total(ds), total(p * away)
  return [before + term for before, term in zip(sums, terms, strict=True)]
