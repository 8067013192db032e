"""One after the other in time, not in a row: neighbours in adjacent batches.

Haga et al., arXiv:2411.09587, present a variation set so that its utterances
follow each other over updates and never meet in one context ("adjacent
batch"; how exactly is not published, so this is our reading): place b of the
batch of step t holds utterance j of a set, place b of step t + 1 utterance
j + 1.
"""

import dataclasses

import numpy as np

from jaxlm.data import order
from jaxlm.data.orders import orders
from jaxlm.errors import UserError


@orders.register("lanes", paper="arXiv:2411.09587", example={"steps": 4})
@dataclasses.dataclass(frozen=True)
class Lanes:
  """Runs of `steps` neighbouring rows, each run in one place of the batch.

  Attributes:
    steps: rows of a run; the rows of the cache are whole runs.
  """

  steps: int

  def __post_init__(self):
    if isinstance(self.steps, bool) or self.steps < 1:
      raise UserError(
        f"data.order.steps is {self.steps!r}; it is a whole number of at "
        "least 1."
      )

  def rows_of_step(self, seed, step, batch_size, rows):
    """Row j of `batch_size` runs, where j counts steps; no random numbers.

    Raises:
      UserError: rows that are no whole runs.
    """
    del seed
    if rows % self.steps:
      raise UserError(
        f"data.order 'lanes' takes runs of {self.steps} rows, and the cache "
        f"has {rows} rows, {rows % self.steps} more than whole runs: each run "
        "must be so many utterances, with data.arrangement=dict(kind="
        "'separate'), as data.kind='variation_sets' makes them."
      )
    turn, place = divmod(step, self.steps)
    runs = order.entries(turn, batch_size)
    epochs, runs = np.divmod(runs, rows // self.steps)
    return runs * self.steps + place, epochs
