"""Running text cut into full rows, with no token between documents (T5).

A corruption such as `span_corruption` closes what it makes of a row itself.
Documents of a row see each other, as in T5's pipeline, which strings documents
together before it cuts (arXiv:1910.10683, section 2.2 and its code).
"""

import dataclasses

import numpy as np

from jaxlm.data.arrangements import _plan, arrangements


@arrangements.register("stream", paper="arXiv:1910.10683")
@dataclasses.dataclass(frozen=True)
class Stream:
  """Documents end to end; all rows but the last are full."""

  sentences = False
  packs = False

  def plan(self, pieces, frame, width) -> _plan.Plan:
    """Cuts every `width` tokens."""
    del frame
    total = int(pieces.starts[-1])
    start = np.arange(0, total, width, dtype=np.int64)
    rows = len(start)
    nothing = _plan.same(_plan.NONE, rows)
    return _plan.Plan(
      bounds=np.arange(rows + 1, dtype=np.int64),
      start=start,
      length=np.minimum(width, total - start).astype(np.int32),
      before=nothing,
      after=nothing,
      segment=_plan.same(1, rows),
    )
