"""One tile of scores: what is added to it, and what is hidden."""

import dataclasses

import jax
import jax.numpy as jnp

from pallas_kernels.flash_attention.mosaic_gpu.machine import LOG2E
from pallas_kernels.flash_attention.mosaic_gpu.problem import Problem


@dataclasses.dataclass(frozen=True)
class Tile:
  """Where a tile of scores lies.

  Attributes:
    problem: of the call.
    first_query: the tile's first query, a traced integer.
    first_key: its first key.
    shape: (queries, keys), or (keys, queries) where transposed.
    transposed: whether keys are rows.
  """

  problem: Problem
  first_query: jax.Array
  first_key: jax.Array
  shape: tuple[int, int]
  transposed: bool = False

  @property
  def query_axis(self) -> int:
    """Axis of the tile along which queries lie."""
    return 1 if self.transposed else 0

  def distance(self):
    """float32: how many places each key lies after its query; exact.

    Made of a number for each row and one for each column, which takes fewer
    registers and instructions than integers of the tile's shape.
    """
    machine, offset = self.problem.machine, self.problem.static.query_offset
    moved = self.first_key - self.first_query - offset

    def along(axis, first=0):
      places = machine.places(self.shape[axis], axis) + first
      places = places.astype(jnp.float32)
      return jax.lax.broadcast_in_dim(places, self.shape, [axis])

    return along(1 - self.query_axis, moved) - along(self.query_axis)

  def logits(self, products, slope):
    """(x, factor): scores to base 2 are x * factor, with a factor over 0."""
    factor = self.problem.factor
    if not self.problem.slopes:
      return products, factor
    away = jnp.abs(self.distance())
    return products * factor - away * (slope * LOG2E), 1.0

  def hide(self, x, q_ids=None, k_ids=None):
    """x with -inf where the query does not see the key.

    Args:
      x: scores.
      q_ids: segment ids of queries in shared memory, or None.
      k_ids: of keys.
    """
    static, machine = self.problem.static, self.problem.machine
    hidden = lambda seen, x: jnp.where(seen, x, -jnp.inf)
    if static.causal or static.window is not None:
      distance = self.distance()
      before, after = static.window or (None, None)
      if static.causal:
        after = 0 if after is None else min(after, 0)
      x = hidden(distance <= after, x)
      if before is not None:
        x = hidden(distance >= -before, x)
    if self.problem.segments:
      q = machine.load(q_ids, self.shape, self.query_axis)
      k = machine.load(k_ids, self.shape, 1 - self.query_axis)
      return hidden(q == k, x)
    # Padded keys that are rows of their own disturb nothing.
    if not self.transposed and self.problem.keys % self.shape[1]:
      keys = machine.places(self.shape[1], 1)
      inside = keys < self.problem.keys - self.first_key
      x = hidden(jax.lax.broadcast_in_dim(inside, self.shape, [1]), x)
    return x
