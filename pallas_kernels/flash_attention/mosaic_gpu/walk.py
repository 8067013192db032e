"""The walk of a program over blocks: loops, and buffers in shared memory."""

import functools
from collections.abc import Callable

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.flash_attention.mosaic_gpu.machine import COMPUTING, int32
from pallas_kernels.flash_attention.mosaic_gpu.problem import Problem


def visit(bounds, step: Callable, carry):
  """step(block, carry, masked) over [low, high), masked outside of full."""
  low, full_low, full_high, high = map(int32, bounds)
  loop = lambda start, stop, masked, carry: jax.lax.fori_loop(
    start, stop, functools.partial(step, masked=masked), carry
  )
  known = isinstance(bounds[0], int)
  if not known:
    carry = loop(low, full_low, True, carry)
  if not known or bounds[1] < bounds[2]:
    carry = loop(full_low, full_high, False, carry)
  if not known or bounds[2] < bounds[3]:
    carry = loop(full_high, high, True, carry)
  return carry


def barriers(stages: int, copies: dict[str, int]) -> dict:
  """Barriers of a ring of buffers: '<name>_ready' and '<name>_free'.

  Args:
    stages: buffers in the ring.
    copies: name -> copies that fill one buffer.
  """
  found = {}
  for name, count in copies.items():
    found[f"{name}_ready"] = plgpu.Barrier(
      num_arrivals=count, num_barriers=stages
    )
    found[f"{name}_free"] = plgpu.Barrier(
      num_arrivals=COMPUTING, num_barriers=stages
    )
  return found


def slot_of(step, stages: int):
  """The buffer of the ring that a step uses."""
  return jax.lax.rem(step, int32(stages))


def await_free(refs, name: str, step, slot, stages: int) -> None:
  """Waits until what was in the buffer `stages` steps ago has been used."""

  @pl.when(step >= stages)
  def _():
    plgpu.barrier_wait(refs[f"{name}_free"].at[slot])


def drain(refs, names, steps, stages: int) -> None:
  """Waits until the last `stages` buffers have been used.

  A barrier must not be left while somebody may still arrive at it.
  """
  for slot in range(stages):

    @pl.when(slot < steps)
    def _(slot=slot):
      for name in names:
        plgpu.barrier_wait(refs[f"{name}_free"].at[slot])


def copy_keys(problem: Problem, refs, place, bounds, block_k: int) -> None:
  """Copies keys, values and their ids of all blocks into their rings.

  Args:
    problem: of the call.
    refs: hold 'key', 'value', 'k_ids' and their rings 'k', 'v', 'ki'.
    place: (row, head, which 128 queries).
    bounds: see `visit`.
    block_k: keys of a block.
  """
  batch, head, _ = place
  stages = problem.blocks.stages
  key_head = jax.lax.div(head, int32(problem.group))
  low, high = int32(bounds[0]), int32(bounds[3])
  copy = plgpu.copy_gmem_to_smem

  def step(block, _):
    slot = slot_of(block - low, stages)
    rows = pl.ds(block * block_k, block_k)
    await_free(refs, "k", block - low, slot, stages)
    ready = refs["k_ready"].at[slot]
    copy(refs["key"].at[batch, rows, key_head], refs["k"].at[slot], ready)
    if problem.segments:
      copy(refs["k_ids"].at[batch, rows], refs["ki"].at[slot], ready)
    await_free(refs, "v", block - low, slot, stages)
    ready = refs["v_ready"].at[slot]
    copy(refs["value"].at[batch, rows, key_head], refs["v"].at[slot], ready)

  jax.lax.fori_loop(low, high, step, None)
  drain(refs, ("k", "v"), high - low, stages)
