"""Each document bracketed on its own, several packed in a row.

A document longer than the row is split into pieces as long as fit; each piece
is bracketed too and counts as a document (its segment and positions restart).
"""

import dataclasses

import numpy as np

from jaxlm.data import packing
from jaxlm.data.arrangements import _plan, arrangements
from jaxlm.errors import UserError


@arrangements.register("documents", paper="arXiv:2107.02027")
@dataclasses.dataclass(frozen=True)
class Documents:
  """`[CLS] document [SEP]`, packed by `jaxlm.data.packing`.

  Attributes:
    max_per_row: documents a row holds at most; 0 for no limit.
  """

  max_per_row: int = 0
  sentences = False

  @property
  def packs(self) -> bool:
    """Whether a row may hold several documents."""
    return self.max_per_row != 1

  def plan(self, pieces, frame, width) -> _plan.Plan:
    """Packs.

    Raises:
      UserError: rows that are too short to hold a token.
    """
    capacity = width - frame.single
    if capacity < 1:
      raise UserError(
        f"data.length is {width}: too short for a token between "
        f"{frame.single} special tokens."
      )
    starts, lengths = _split(pieces, capacity)
    packed = packing.pack(lengths + frame.single, width, self.max_per_row)
    spans = len(packed.items)
    return _plan.Plan(
      bounds=packed.bounds,
      start=starts[packed.items],
      length=lengths[packed.items],
      before=_plan.same(frame.before_a, spans),
      after=_plan.same(frame.after_a, spans),
      segment=_plan.ordinals(packed.bounds),
    )


def _split(pieces, capacity):
  """Starts and lengths of documents, those over the capacity cut."""
  lengths = pieces.lengths.astype(np.int64)
  parts = -(-lengths // capacity)
  document = np.repeat(np.arange(len(lengths)), parts)
  part = _plan.ordinals(_plan.rows_of(parts)) - 1
  offset = part.astype(np.int64) * capacity
  starts = pieces.starts[:-1][document] + offset
  sizes = np.minimum(lengths[document] - offset, capacity)
  return starts, sizes.astype(np.int32)
