"""Where gradients of the terms of a score go, a tile at a time.

A sink belongs to the kernel that visits its operand's tiles: `outputs` says
what it writes, `start` what it carries, `take` is given dS of each tile, and
`skip` each tile that nobody sees, `finish` writes what was carried.
"""

import jax.numpy as jnp
from jax.experimental.pallas import triton as pltriton

from pallas_kernels.flash_attention.triton import scores
from pallas_kernels.flash_attention.triton.problem import Problem
from pallas_kernels.flash_attention.triton.tiles import Tile
from pallas_kernels.flash_attention.triton.visits import Output


class Sink:
  """The parts that most sinks leave as they are."""

  def start(self, problem: Problem):
    """Carry of the loop."""
    del problem
    return ()

  def skip(self, outs, tile: Tile):
    """Told of a tile outside the visible range."""
    del outs, tile

  def finish(self, outs, tile: Tile, carry):
    """Writes the carry; the tile is the owner's, its keys are None."""
    del outs, tile, carry


class Table(Sink):
  """c2p or p2c: additions into [batch, owners, heads, buckets] float32.

  Atomic, because keys share a bucket; only the owner's program adds to a row.
  """

  def __init__(self, name):
    self.name = name

  def outputs(self, problem, operands):
    """The table's gradient."""
    del problem
    table = getattr(operands, self.name)
    return {self.name: Output(table.shape, jnp.float32, zeroed=True)}

  def take(self, refs, outs, tile, ds, carry):
    """Adds dS where its score was read."""
    out = outs[self.name]
    place = scores.bucket_place(refs, self.name, out, tile)
    inside = tile.inside()
    if tile.problem.interpret:
      # The interpreter's atomic_add knows no mask and loses additions to an
      # element that is named twice.
      index = place.transforms[-1].indices
      ds = ds if inside is None else jnp.where(inside, ds, 0.0)
      out[...] = out[...].at[index].add(ds)
    else:
      if inside is not None:
        inside = jnp.broadcast_to(inside, tile.shape)
      pltriton.atomic_add(out, place.transforms[-1].indices, ds, mask=inside)
    return carry


class Dense(Sink):
  """A bias of every row and head of its own: dS is its gradient."""

  name = "dense"

  def outputs(self, problem, operands):
    """The bias' gradient."""
    del problem
    return {"dense": Output(operands.dense.shape, operands.dense.dtype)}

  def take(self, refs, outs, tile, ds, carry):
    """Writes dS."""
    del refs
    self._write(outs["dense"], tile, ds)
    return carry

  def skip(self, outs, tile):
    """Writes 0."""
    self._write(outs["dense"], tile, jnp.zeros(tile.shape, jnp.float32))

  def _write(self, out, tile, value):
    place = out.at[
      tile.batch,
      tile.head,
      tile.over_queries(tile.queries.index),
      tile.over_keys(tile.keys.index),
    ]
    pltriton.store(place, value.astype(out.dtype), mask=_wide(tile))


def _wide(tile):
  inside = tile.inside()
  return None if inside is None else jnp.broadcast_to(inside, tile.shape)


class Theta(Sink):
  """The reset's two numbers a head: a sum for each query, added up by XLA."""

  name = "theta"

  def outputs(self, problem, operands):
    """[2, batch, heads, queries]."""
    del operands
    shape = (2, problem.batch, problem.heads, problem.queries)
    return {"theta": Output(shape, jnp.float32)}

  def start(self, problem):
    """Two sums for each query."""
    zero = jnp.zeros((problem.launch.block_q,), jnp.float32)
    return zero, zero

  def take(self, refs, outs, tile, ds, carry):
    """Adds dS of first queries, and of first keys to the others."""
    del refs, outs
    assert not tile.transposed  # the kernel of queries owns this
    first = tile.over_keys(tile.keys.first)
    all_keys = jnp.sum(ds, axis=1)
    first_keys = jnp.sum(jnp.where(first, ds, 0.0), axis=1)
    is_first = tile.queries.first
    return (
      carry[0] + jnp.where(is_first, all_keys, 0.0),
      carry[1] + jnp.where(is_first, 0.0, first_keys),
    )

  def finish(self, outs, tile, carry):
    """Writes the sums."""
    for row, value in enumerate(carry):
      tile.queries.store_vector(
        outs["theta"], row, tile.batch, tile.head, value=value
      )


def of_queries(operands) -> tuple[Sink, ...]:
  """Sinks of the kernel that owns queries."""
  found = []
  if operands.theta is not None:
    found.append(Theta())
  if operands.dense is not None and not is_shared(operands):
    found.append(Dense())
  if operands.c2p is not None:
    found.append(Table("c2p"))
  return tuple(found)


def of_keys(operands) -> tuple[Sink, ...]:
  """Sinks of the kernel that owns keys."""
  return () if operands.p2c is None else (Table("p2c"),)


def is_shared(operands) -> bool:
  """Whether rows or heads have one dense bias together."""
  return operands.dense.shape[:2] != (
    operands.query.shape[0],
    operands.query.shape[2],
  )
