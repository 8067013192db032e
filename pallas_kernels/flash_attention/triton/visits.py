"""Which blocks a program visits, and pallas_call in one form.

Blocks that are seen whole are visited by a loop without masks, the others of
the visible range by a second one with them.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from pallas_kernels import _compat
from pallas_kernels.flash_attention import masks
from pallas_kernels.flash_attention.triton.problem import Problem


def ranges(problem: Problem, operands, of: str) -> dict:
  """{"ranges": [1 or batch, blocks, 4]} for `visit`; {} where all is seen.

  Args:
    problem: the call at the tile of the kernel that visits.
    operands: its arrays.
    of: "keys" for blocks of keys by block of queries, or "queries".
  """
  if not problem.has_rules:
    return {}
  static = problem.static
  compute = masks.key_ranges if of == "keys" else masks.query_ranges
  found = compute(
    batch=problem.batch if operands.query_segments is not None else 1,
    queries=problem.queries,
    keys=problem.keys,
    block_q=problem.launch.block_q,
    block_k=problem.launch.block_k,
    query_segments=operands.query_segments,
    key_segments=operands.key_segments,
    causal=static.causal,
    window=static.window,
    query_offset=static.query_offset,
  )
  return {"ranges": found}


def bounds(refs, batch, block):
  """(low, full_low, full_high, high) of a block."""
  ref = refs["ranges"]
  row = batch if ref.shape[0] > 1 else 0
  return tuple(ref[row, block, n] for n in range(4))


def visit(problem: Problem, refs, batch, block, of: str, step, carry):
  """carry after step(block, carry, masked) at each visible block.

  Args:
    problem: the call.
    refs: of the kernel, with `ranges` where there are any.
    batch: row.
    block: which block of the side that the program owns.
    of: side that is visited, "keys" or "queries".
    step: (block, carry, masked) -> carry; `masked` is a Python bool.
    carry: its initial value.
  """
  whole, masked = (
    functools.partial(step, masked=False),
    functools.partial(step, masked=True),
  )
  if not problem.has_rules:
    length, size = (
      (problem.keys, problem.launch.block_k)
      if of == "keys"
      else (problem.queries, problem.launch.block_q)
    )
    carry = jax.lax.fori_loop(0, length // size, whole, carry)
    return masked(jnp.int32(length // size), carry) if length % size else carry
  low, full_low, full_high, high = bounds(refs, batch, block)
  if _has_whole_blocks(problem):
    carry = jax.lax.fori_loop(full_low, full_high, whole, carry)
    gap = full_high - full_low

    def around(n, carry):
      return masked(jnp.where(n < full_low, n, n + gap), carry)

    return jax.lax.fori_loop(low, high - gap, around, carry)
  return jax.lax.fori_loop(low, high, masked, carry)


def skip(problem: Problem, refs, batch, block, of: str, step):
  """step(block) at each block that `visit` leaves out."""
  if not problem.has_rules:
    return

  def one(block, carry):
    step(block)
    return carry

  low, _, _, high = bounds(refs, batch, block)
  blocks = problem.key_blocks if of == "keys" else problem.query_blocks
  jax.lax.fori_loop(0, low, one, 0)
  jax.lax.fori_loop(high, blocks, one, 0)


def _has_whole_blocks(problem):
  """False where the window is too narrow for any block to be seen whole."""
  if problem.static.window is None:
    return True
  before, after = problem.static.window
  after = 0 if problem.static.causal else after
  needed = problem.launch.block_q + problem.launch.block_k - 1
  return before + after + 1 >= needed


@dataclasses.dataclass(frozen=True)
class Output:
  """An array that a kernel writes.

  Attributes:
    shape: of the array.
    dtype: of the array.
  """

  shape: tuple[int, ...]
  dtype: jnp.dtype


def launch(
  kernel: Callable,
  problem: Problem,
  *,
  name: str,
  grid: tuple[int, ...],
  inputs: dict,
  outputs: dict,
  matmuls: int,
) -> dict:
  """Runs kernel(refs, outs) and returns its outputs by name.

  Args:
    kernel: takes a dict of whole arrays' references and one of outputs'.
    problem: the call at the kernel's tile.
    name: seen in profiles.
    grid: programs along up to three axes.
    inputs: arrays by name.
    outputs: `Output`s by name.
    matmuls: products of the size of the scores, for XLA's cost model.
  """
  shapes = {
    name: jax.ShapeDtypeStruct(out.shape, out.dtype)
    for name, out in outputs.items()
  }

  return pl.pallas_call(
    kernel,
    name=name,
    grid=grid,
    out_shape=shapes,
    compiler_params=_compat.triton_params(
      num_warps=problem.launch.num_warps, num_stages=problem.launch.num_stages
    ),
    cost_estimate=_cost(problem, [*inputs.values(), *shapes.values()], matmuls),
    interpret=problem.interpret,
  )(inputs)


def _cost(problem, arrays, matmuls):
  """As if all were seen: what is hidden is known only when it runs."""
  pairs = problem.batch * problem.heads * problem.queries * problem.keys
  channels = (problem.head_dim + problem.value_dim) // 2
  return pl.CostEstimate(
    flops=2 * matmuls * pairs * channels,
    transcendentals=pairs,
    bytes_accessed=sum(x.size * x.dtype.itemsize for x in arrays),
  )
