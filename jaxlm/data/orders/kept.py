"""Rows in the order of the text, every epoch alike: a curriculum."""

import dataclasses

import numpy as np

from jaxlm.data import order
from jaxlm.data.orders import orders


@orders.register("kept")
@dataclasses.dataclass(frozen=True)
class Kept:
  """Batches are the rows of the cache, end to end and again.

  The text is read in the order of its files; of the arrangements, `chunks`,
  `stream`, `blocks` and `separate` keep it.
  """

  def rows_of_step(self, seed, step, batch_size, rows):
    """The rows step * batch_size and on; `seed` changes nothing."""
    return self.rows_of_entries(seed, order.entries(step, batch_size), rows)

  def rows_of_entries(self, seed, numbers, rows):
    """Any places of the rows end to end."""
    del seed
    epochs, indices = np.divmod(numbers, rows)
    return indices, epochs
