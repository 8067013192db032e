"""Gradients of biases that many rows or heads share, without storing dS.

A program owns one tile of the bias and adds up dS of every tile of scores
that reads it: for a dense bias those of all rows and heads that share it, for
a bias of the distance those of one block diagonal, where every tile has the
same distances. XLA then adds up what remains: a few partial sums, and the
diagonals of a tile. Two products more a tile, no atomics, deterministic.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pltriton

from pallas_kernels.flash_attention.triton import (
  gradients,
  sinks,
  tiles,
  visits,
)
from pallas_kernels.flash_attention.triton.problem import Problem

# Programs that keep a large GPU busy (two for each of 132 multiprocessors).
_PROGRAMS = 264


def gradients_of(problem: Problem, operands, inputs) -> dict:
  """Gradients of toeplitz, slopes and a shared dense bias, if present."""
  found = {}
  inputs = inputs | visits.ranges(problem, operands, "keys")
  if operands.dense is not None and sinks.is_shared(operands):
    found["dense"] = _dense(problem, operands.dense.shape, inputs)
  if operands.toeplitz is None and operands.slopes is None:
    return found
  # Kernels of their own: XLA drops them where nobody asks for the gradient.
  if operands.slopes is not None and problem.dtype != jnp.float32:
    inputs["delta"] = _delta(problem, inputs)
  of_distance = _of_distance(problem, inputs)
  if operands.toeplitz is not None:
    found["toeplitz"] = of_distance
  if operands.slopes is not None:
    first = 1 - problem.queries - problem.static.query_offset
    away = jnp.abs(jnp.arange(first, first + of_distance.shape[1]))
    found["slopes"] = -jnp.sum(of_distance * away[None, :], axis=1)
  return found


def _splits(items: int, programs: int) -> int:
  """Programs that one sum of `items` tiles is dealt to."""
  return max(1, min(items, -(-_PROGRAMS // programs)))


def _dense(problem, shape, inputs):
  """Gradient of [1 or batch, 1 or heads, queries, keys]."""
  each, owners = problem.query_blocks * problem.key_blocks, shape[0] * shape[1]
  members = problem.batch * problem.heads // owners
  splits = _splits(members, each * owners)
  found = visits.launch(
    functools.partial(_dense_kernel, problem, shape, members),
    problem,
    name="attention_backward_dense",
    grid=(each, owners, splits),
    inputs=inputs,
    outputs={"sum": visits.Output((splits, *shape), jnp.float32)},
    matmuls=2,
  )
  return jnp.sum(found["sum"], axis=0)


def _dense_kernel(problem, shape, members, refs, outs):
  block, owner, split = (pl.program_id(axis) for axis in range(3))
  block_q, block_k = block // problem.key_blocks, block % problem.key_blocks
  out = outs["sum"]
  row, column = owner // shape[1], owner % shape[1]

  def where(n):
    heads = problem.heads // shape[1]
    batch = row if shape[0] > 1 else n // heads
    head = column if shape[1] > 1 else n % heads
    return batch, head, block_q, block_k

  total = _total(problem, refs, members, split, out.shape[0], where)
  # Without references: only where the tile lies.
  queries = tiles.queries(problem, {}, row, column, block_q)
  keys = tiles.keys(problem, {}, row, block_k)
  tile = tiles.Tile(problem, row, column, queries, keys)
  place = out.at[
    split,
    row,
    column,
    tile.over_queries(tile.queries.index),
    tile.over_keys(tile.keys.index),
  ]
  inside = tile.inside()
  if inside is not None:
    inside = jnp.broadcast_to(inside, tile.shape)
  pltriton.store(place, total, mask=inside)


def _delta(problem, inputs):
  """[batch, heads, queries] float32: delta, not of an output in 16 bits.

  A slope's gradient is what is left of a row's terms, large ones far away,
  that cancel: delta's rounding would show, up to 6 times what else rounds.
  """
  shape = (problem.batch, problem.heads, problem.queries)
  found = visits.launch(
    functools.partial(_delta_kernel, problem),
    problem,
    name="attention_backward_delta",
    grid=(problem.query_blocks, problem.heads, problem.batch),
    inputs=inputs,
    outputs={"delta": visits.Output(shape, jnp.float32)},
    matmuls=2,
  )
  return found["delta"]


def _delta_kernel(problem, refs, outs):
  owned, head, batch = (pl.program_id(axis) for axis in range(3))
  key_head = head // problem.group
  rows = gradients.Rows(problem, refs, batch, head, owned, masked=True)

  def step(block, error, masked):
    columns = gradients.Columns(
      problem, refs, batch, key_head, block, masked=masked
    )
    tile = tiles.Tile(problem, batch, head, rows.side, columns.side)
    found = gradients.of_tile(refs, tile, rows, columns, masked=masked)
    return error + jnp.sum(found.uncapped, axis=1)

  start = jnp.zeros((problem.launch.block_q,), jnp.float32)
  # dS of a row adds up to 0 but for the error of delta.
  error = visits.visit(problem, refs, batch, owned, "keys", step, start)
  rows.side.store_vector(outs["delta"], batch, head, value=rows.delta + error)


def _of_distance(problem, inputs):
  """[heads, queries + keys - 1]: dS added up over pairs of one distance."""
  diagonals = problem.query_blocks + problem.key_blocks - 1
  size = problem.launch.block_q
  splits = _splits(
    problem.batch * min(problem.query_blocks, problem.key_blocks),
    diagonals * problem.heads,
  )
  found = visits.launch(
    functools.partial(_diagonal_kernel, problem),
    problem,
    name="attention_backward_distance",
    grid=(diagonals, problem.heads, splits),
    inputs=inputs,
    outputs={
      "sum": visits.Output(
        (splits, problem.heads, diagonals, size, size), jnp.float32
      )
    },
    matmuls=2,
  )
  return _along_diagonals(problem, jnp.sum(found["sum"], axis=0))


def _diagonal_kernel(problem, refs, outs):
  diagonal, head, split = (pl.program_id(axis) for axis in range(3))
  away = diagonal - (problem.query_blocks - 1)  # block of keys - of queries
  first = jnp.maximum(0, -away)
  count = jnp.minimum(problem.query_blocks, problem.key_blocks - away) - first

  def where(n):
    block_q = first + n % count
    return n // count, head, block_q, block_q + away

  out = outs["sum"]

  def unreset(tile, ds):
    if "theta" not in problem.present:
      return ds
    return jnp.where(tile.reset(), 0.0, ds)

  items = problem.batch * count
  total = _total(problem, refs, items, split, out.shape[0], where, unreset)
  index = jnp.arange(problem.launch.block_q, dtype=jnp.int32)
  place = out.at[split, head, diagonal, index[:, None], index[None, :]]
  pltriton.store(place, total)


def _along_diagonals(problem, found):
  """[heads, block diagonals, block, block] to [heads, distances].

  Row r of a tile is moved right by block - 1 - r, so that a distance is a
  column; neighbouring block diagonals then overlap by half.
  """
  heads, diagonals, size, _ = found.shape
  skewed = jnp.pad(found[:, :, ::-1], ((0, 0), (0, 0), (0, 0), (0, size)))
  skewed = skewed.reshape(heads, diagonals, -1)[..., : size * (2 * size - 1)]
  sums = jnp.sum(skewed.reshape(heads, diagonals, size, -1), axis=2)
  halves = jnp.pad(sums, ((0, 0), (0, 0), (0, 1)))
  halves = halves.reshape(heads, diagonals, 2, size)
  ends = [(0, 0), (0, 1), (0, 0)], [(0, 0), (1, 0), (0, 0)]
  line = sum(jnp.pad(halves[:, :, n], ends[n]) for n in range(2))
  line = line.reshape(heads, -1)
  start = problem.query_blocks * size - problem.queries
  return line[:, start : start + problem.queries + problem.keys - 1]


def _total(
  problem: Problem, refs, items, split, splits: int, where: Callable, part=None
):
  """Sum over a split of tiles where(n), n < items, of dS or part(tile, dS)."""
  share = (items + splits - 1) // splits
  first = split * share

  def visit(n, total):
    place = batch, _, block_q, block_k = where(n)
    add = functools.partial(_add, problem, refs, place, part)
    if not problem.has_rules:
      return add(total)
    low, _, _, high = visits.bounds(refs, batch, block_q)
    seen = (block_k >= low) & (block_k < high)
    return jax.lax.cond(seen, add, lambda total: total, total)

  zero = jnp.zeros((problem.launch.block_q,) * 2, jnp.float32)
  last = jnp.minimum(first + share, items)
  return jax.lax.fori_loop(first, last, visit, zero)


def _add(problem, refs, place, part, total):
  """total + dS of the tile at (batch, head, block of queries, of keys)."""
  batch, head, block_q, block_k = place
  rows = gradients.Rows(problem, refs, batch, head, block_q, masked=True)
  columns = gradients.Columns(
    problem, refs, batch, head // problem.group, block_k, masked=True
  )
  tile = tiles.Tile(problem, batch, head, rows.side, columns.side)
  ds = gradients.of_tile(refs, tile, rows, columns, masked=True).ds
  return total + (ds if part is None else part(tile, ds))
