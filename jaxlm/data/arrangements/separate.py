"""Each document in a row of its own, in their order: utterances, sentences.

Unlike `documents`, which sorts by length to pack, row r is document r. A row
without a token in front gets the end of text there, so that the first token
is predicted from it, as when sentences are scored.
"""

import dataclasses

import numpy as np

from jaxlm.data.arrangements import _plan, arrangements
from jaxlm.errors import UserError


@arrangements.register("separate", paper="arXiv:2411.09587")
@dataclasses.dataclass(frozen=True)
class Separate:
  """`[CLS] document [SEP]`, or `EOS document EOS`; cut where it is longer."""

  sentences = False
  packs = False

  def plan(self, pieces, frame, width) -> _plan.Plan:
    """One span a row.

    Raises:
      UserError: rows too short to hold a token.
    """
    before = frame.before_a if frame.before_a != _plan.NONE else frame.eos
    after = frame.after_a
    capacity = width - sum(token != _plan.NONE for token in (before, after))
    if capacity < 1:
      raise UserError(
        f"data.length is {width}: too short for a token between special tokens."
      )
    rows = len(pieces.lengths)
    return _plan.Plan(
      bounds=np.arange(rows + 1, dtype=np.int64),
      start=pieces.starts[:-1],
      length=np.minimum(pieces.lengths, capacity).astype(np.int32),
      before=_plan.same(before, rows),
      after=_plan.same(after, rows),
      segment=_plan.same(1, rows),
    )
