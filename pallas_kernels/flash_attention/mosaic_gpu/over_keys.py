"""Gradients of key and value: a program for each 128 keys of a key head.

Tiles are transposed, with keys as rows, so that what is added up lies in
registers. All heads of queries that share the keys are visited in turn.
"""

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
  """{'key': gradient, 'value': gradient}."""
  length = inputs["key"].shape[1]
  outputs = {
    name: jax.ShapeDtypeStruct(inputs[operand].shape, problem.dtype)
    for name, operand in (("dk", "key"), ("dv", "value"))
  }
  block_q = problem.blocks.dkv_q
  found = machine.launch(
    functools.partial(_kernel, problem),
    name="attention_backward_keys",
    interpret=problem.static.interpret,
    grid=(problem.key_heads, length // BLOCK, problem.batch),
    inputs=inputs | problem.ranges("queries", block_q, operands),
    outputs=outputs,
    scratch=_scratch(problem),
  )
  keys = problem.keys
  return {"key": found["dk"][:, :keys], "value": found["dv"][:, :keys]}


def _scratch(problem: Problem) -> dict:
  stages, block_q = problem.blocks.stages, problem.blocks.dkv_q
  dims, ids = (problem.head_dim, problem.value_dim), int(problem.segments)
  memory = functools.partial(machine.matrix_memory, dtype=problem.dtype)
  owned = (machine.COMPUTING, ROWS)
  scratch = {
    "k": memory(*owned, dims[0]),
    "v": memory(*owned, dims[1]),
    "q": memory(stages, block_q, dims[0]),
    "do": memory(stages, block_q, dims[1]),
    "l": plgpu.SMEM((stages, block_q), jnp.float32),
    "d": plgpu.SMEM((stages, block_q), jnp.float32),
    "k_ready": plgpu.Barrier(
      num_arrivals=2 + ids, num_barriers=machine.COMPUTING
    ),
    **walk.barriers(stages, {"q": 2 + ids, "do": 2}),
  }
  if problem.segments:
    scratch["ki"] = plgpu.SMEM(owned, jnp.int32)
    scratch["qi"] = plgpu.SMEM((stages, block_q), jnp.int32)
  return scratch


def _kernel(problem: Problem, refs):
  key_head, owned, batch = (jax.lax.axis_index(name) for name in machine.AXES)
  block_q = problem.blocks.dkv_q
  length = -(-problem.queries // block_q) * block_q
  bounds = problem.bounds(refs, batch, owned, length, block_q)
  place = batch, key_head, owned
  machine.roles(
    lambda n: _compute(problem, refs, place, bounds, n),
    lambda: _copy(problem, refs, place, bounds),
  )


def _over_heads(problem, visit, carry):
  """visit(which of the heads that share keys, carry), for all of them."""
  if problem.group == 1:
    return visit(machine.int32(0), carry)
  return jax.lax.fori_loop(
    machine.int32(0), machine.int32(problem.group), visit, carry
  )


def _copy(problem, refs, place, bounds):
  batch, key_head, owned = place
  stages, block_q = problem.blocks.stages, problem.blocks.dkv_q
  low, high = machine.int32(bounds[0]), machine.int32(bounds[3])
  copy = plgpu.copy_gmem_to_smem
  for n in range(machine.COMPUTING):
    rows = pl.ds(owned * BLOCK + n * ROWS, ROWS)
    ready = refs["k_ready"].at[n]
    copy(refs["key"].at[batch, rows, key_head], refs["k"].at[n], ready)
    copy(refs["value"].at[batch, rows, key_head], refs["v"].at[n], ready)
    if problem.segments:
      copy(refs["k_ids"].at[batch, rows], refs["ki"].at[n], ready)

  def of_head(member, _):
    head = key_head * problem.group + member
    first = member * (high - low)

    def step(block, _):
      slot = walk.slot_of(first + block - low, stages)
      rows = pl.ds(block * block_q, block_q)
      walk.await_free(refs, "q", first + block - low, slot, stages)
      ready = refs["q_ready"].at[slot]
      copy(refs["query"].at[batch, rows, head], refs["q"].at[slot], ready)
      copy(refs["lse"].at[batch, head, rows], refs["l"].at[slot], ready)
      if problem.segments:
        copy(refs["q_ids"].at[batch, rows], refs["qi"].at[slot], ready)
      walk.await_free(refs, "do", first + block - low, slot, stages)
      ready = refs["do_ready"].at[slot]
      copy(refs["grad"].at[batch, rows, head], refs["do"].at[slot], ready)
      copy(refs["minus_delta"].at[batch, head, rows], refs["d"].at[slot], ready)

    jax.lax.fori_loop(low, high, step, None)

  _over_heads(problem, of_head, None)
  steps = problem.group * (high - low)
  walk.drain(refs, ("q", "do"), steps, stages)


def _compute(problem, refs, place, bounds, n):
  batch, key_head, owned = place
  low, high = machine.int32(bounds[0]), machine.int32(bounds[3])
  first_key = owned * BLOCK + n * ROWS
  plgpu.barrier_wait(refs["k_ready"].at[n])

  def of_head(member, carry):
    slope = None
    if problem.slopes:
      slope = refs["slopes"][key_head * problem.group + member]

    def step(block, carry, masked):
      step_number = member * (high - low) + block - low
      slot = walk.slot_of(step_number, problem.blocks.stages)
      at = block * problem.blocks.dkv_q, first_key
      return _step(problem, refs, n, slot, at, slope, carry, masked)

    return walk.visit(bounds, step, carry)

  start = tuple(
    problem.machine.zeros((ROWS, dim))
    for dim in (problem.head_dim, problem.value_dim)
  )
  dk, dv = _over_heads(problem, of_head, start)
  # The warpgroup is done with its keys: their memory takes the results.
  refs["k"].at[n][...] = (dk * problem.static.scale).astype(problem.dtype)
  refs["v"].at[n][...] = dv.astype(problem.dtype)
  plgpu.commit_smem()
  rows = pl.ds(first_key, ROWS)
  for name, out in (("k", "dk"), ("v", "dv")):
    plgpu.copy_smem_to_gmem(
      refs[name].at[n], refs[out].at[batch, rows, key_head]
    )
  plgpu.wait_smem_to_gmem(0)


def _step(problem, refs, n, slot, at, slope, carry, masked):
  """Adds what one block of queries gives to (dk, dv)."""
  unit, dk, dv = problem.machine, *carry
  shape = (ROWS, problem.blocks.dkv_q)
  tile = Tile(problem, *at, shape, transposed=True)
  q, do = refs["q"].at[slot], refs["do"].at[slot]
  plgpu.barrier_wait(refs["q_ready"].at[slot])
  x = unit.product(refs["k"].at[n], q, transpose_b=True)
  x, factor = tile.logits(x, slope)
  if masked:
    ids = (refs["qi"].at[slot], refs["ki"].at[n]) if problem.segments else ()
    x = tile.hide(x, *ids)
  p = jnp.exp2(x * factor - unit.load(refs["l"].at[slot], shape, 1))
  plgpu.barrier_wait(refs["do_ready"].at[slot])
  # Before dS is at hand: fewer registers are taken at once.
  dv = unit.add_product(dv, p.astype(problem.dtype), do)
  # The product starts from -delta: that takes no registers of its own.
  less = unit.load(refs["d"].at[slot], shape, 1)
  ds = p * unit.add_product(less, refs["v"].at[n], do, transpose_b=True)
  plgpu.barrier_arrive(refs["do_free"].at[slot])
  dk = unit.add_product(dk, ds.astype(problem.dtype), q)
  plgpu.barrier_arrive(refs["q_free"].at[slot])
  return dk, dv
