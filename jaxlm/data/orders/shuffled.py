"""Rows in a new random order each epoch: what pre-training does."""

import dataclasses

from jaxlm.data import order
from jaxlm.data.orders import orders


@orders.register("shuffled")
@dataclasses.dataclass(frozen=True)
class Shuffled:
  """Seeded permutations, one an epoch, end to end."""

  def rows_of_step(self, seed, step, batch_size, rows):
    """Entries of the permutations; see `jaxlm.data.order`."""
    return order.rows_of_step(seed, step, batch_size, rows)

  def rows_of_entries(self, seed, numbers, rows):
    """Any places of the stream of permutations."""
    return order.rows_of_entries(seed, numbers, rows)
