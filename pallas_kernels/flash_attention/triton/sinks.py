"""Where gradients of the terms of a score go, a tile at a time.

A sink belongs to the kernel that owns the rows of the tiles that it is given:
`outputs` says what it writes, `start` what it carries, `take` is given each
tile's `gradients.Found`, `skip` each tile that nobody sees, and `finish` writes
what was carried.
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

  def take(self, outs, tile: Tile, found, carry):
    """Writes dS."""
    self._write(outs, tile, found.ds)
    return carry

  def _write(self, outs, tile, ds):
    out = outs[self.name]
    i = tile.over_queries(tile.queries.index)
    j = tile.over_keys(tile.keys.index)
    i, j = (j, i) if tile.transposed else (i, j)
    mask = tile.inside()
    mask = None if mask is None else jnp.broadcast_to(mask, tile.shape)
    place = out.at[tile.batch, tile.head, i, j]
    pltriton.store(place, ds.astype(out.dtype), mask=mask)

  def skip(self, outs, tile):
    """Writes 0."""
    self._write(outs, tile, jnp.zeros(tile.shape, jnp.float32))

  def finish(self, outs, tile, carry):
    """Nothing is left."""
    del outs, tile, carry


class Theta:
  """The reset's two numbers a head: a sum for each query, added up by XLA.

  Without a soft cap dS of a row adds up to 0, and theta's gradient is what is
  left of large terms that cancel: it would show that delta was made of an
  output rounded to 16 bits. The row's own sum tells delta's error, which is
  taken out of what theta gets.
  """

  def outputs(self, problem, transposed):
    """[batch, heads, queries]."""
    del transposed
    shape = (problem.batch, problem.heads, problem.queries)
    return {"theta": Output(shape, jnp.float32)}

  def start(self, problem):
    """Three sums for each query."""
    return (jnp.zeros((problem.launch.block_q,), jnp.float32),) * 3

  def take(self, outs, tile, found, carry):
    """Adds up the row, and dS and its weight of delta where theta stood."""
    del outs
    reset, total = tile.reset(), lambda x: jnp.sum(x, axis=1)
    return (
      carry[0] + total(found.uncapped),
      carry[1] + total(jnp.where(reset, found.ds, 0.0)),
      carry[2] + total(jnp.where(reset, found.weight, 0.0)),
    )

  def skip(self, outs, tile):
    """A tile that nobody sees adds nothing."""
    del outs, tile

  def finish(self, outs, tile, carry):
    """Writes the corrected sums."""
    error, ds, weight = carry
    tile.queries.store_vector(
      outs["theta"], tile.batch, tile.head, value=ds - error * weight
    )


def theta_gradient(sums, query_first):
  """[2, heads] of what `Theta` wrote: first queries read theta[0]."""
  first = query_first[:, None, :] > 0
  parts = [jnp.where(first, sums, 0.0), jnp.where(first, 0.0, sums)]
  return jnp.stack([jnp.sum(part, axis=(0, 2)) for part in parts])


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
