"""Where gradients of the terms of a score go, a tile at a time.

A sink belongs to the kernel that owns the rows of the tiles that it is given:
`outputs` says what it writes, `start` what it carries, `take` is given dS of
each tile, `skip` each tile that nobody sees, and `finish` writes what was
carried.
"""

import jax.numpy as jnp
from jax.experimental.pallas import triton as pltriton

from pallas_kernels.flash_attention.triton.problem import Problem
from pallas_kernels.flash_attention.triton.tiles import Tile
from pallas_kernels.flash_attention.triton.visits import Output


class Kept:
  """dS itself, [batch, heads, owners, others].

  It is the gradient of a dense bias of every row and head of its own; for
  disentangled tables it is what `tables` adds up by bucket.
  """

  def __init__(self, name: str, dtype):
    self.name = name
    self.dtype = dtype

  def outputs(self, problem: Problem, transposed: bool):
    """dS, or dS of keys by queries where the kernel owns keys."""
    shape = (problem.queries, problem.keys)
    shape = shape[::-1] if transposed else shape
    shape = (problem.batch, problem.heads, *shape)
    return {self.name: Output(shape, self.dtype)}

  def start(self, problem):
    """Carries nothing."""
    del problem
    return ()

  def take(self, outs, tile: Tile, ds, carry):
    """Writes dS."""
    out = outs[self.name]
    i = tile.over_queries(tile.queries.index)
    j = tile.over_keys(tile.keys.index)
    i, j = (j, i) if tile.transposed else (i, j)
    mask = tile.inside()
    mask = None if mask is None else jnp.broadcast_to(mask, tile.shape)
    place = out.at[tile.batch, tile.head, i, j]
    pltriton.store(place, ds.astype(out.dtype), mask=mask)
    return carry

  def skip(self, outs, tile):
    """Writes 0."""
    self.take(outs, tile, jnp.zeros(tile.shape, jnp.float32), ())

  def finish(self, outs, tile, carry):
    """Nothing is left."""
    del outs, tile, carry


class Theta:
  """The reset's two numbers a head: a sum for each query, added up by XLA."""

  def outputs(self, problem, transposed):
    """[2, batch, heads, queries]."""
    del transposed
    shape = (2, problem.batch, problem.heads, problem.queries)
    return {"theta": Output(shape, jnp.float32)}

  def start(self, problem):
    """Two sums for each query."""
    zero = jnp.zeros((problem.launch.block_q,), jnp.float32)
    return zero, zero

  def take(self, outs, tile, ds, carry):
    """Adds dS of first queries, and of first keys to the others."""
    del outs
    first_keys = jnp.where(tile.over_keys(tile.keys.first), ds, 0.0)
    is_first = tile.queries.first
    return (
      carry[0] + jnp.where(is_first, jnp.sum(ds, axis=1), 0.0),
      carry[1] + jnp.where(is_first, 0.0, jnp.sum(first_keys, axis=1)),
    )

  def skip(self, outs, tile):
    """A tile that nobody sees adds nothing."""
    del outs, tile

  def finish(self, outs, tile, carry):
    """Writes the sums."""
    for row, value in enumerate(carry):
      tile.queries.store_vector(
        outs["theta"], row, tile.batch, tile.head, value=value
      )


def of_queries(operands) -> tuple:
  """Sinks of the kernel that owns queries."""
  found = []
  if operands.theta is not None:
    found.append(Theta())
  if operands.dense is not None and not is_shared(operands):
    found.append(Kept("dense", operands.dense.dtype))
  if operands.c2p is not None:
    found.append(Kept("c2p", operands.c2p.dtype))
  return tuple(found)


def of_keys(operands) -> tuple:
  """Sinks of the kernel that owns keys."""
  if operands.p2c is None:
    return ()
  return (Kept("p2c", operands.p2c.dtype),)


def is_shared(operands) -> bool:
  """Whether rows or heads have one dense bias together."""
  return operands.dense.shape[:2] != (
    operands.query.shape[0],
    operands.query.shape[2],
  )
