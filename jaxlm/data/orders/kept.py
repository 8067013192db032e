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
    del seed
    epochs, indices = np.divmod(order.entries(step, batch_size), rows)
    return indices, epochs
