"""Documents end to end, each closed by EOS, cut into rows: causal LM.

Nothing is dropped and nothing but the very last row is padded: the rest of a
document opens the next row. Rows end to end are the documents end to end.
GPT-2 lets tokens see across EOS (`cross_document`); without it each document,
or what a row holds of it, is a segment of its own.
"""

import dataclasses

import numpy as np

from jaxlm.data.arrangements import _plan, arrangements
from jaxlm.errors import UserError


@arrangements.register("chunks", paper="Radford et al. 2019, GPT-2")
@dataclasses.dataclass(frozen=True)
class Chunks:
  """Exact rows of a stream of documents.

  Attributes:
    cross_document: whether tokens see the documents before theirs.
  """

  cross_document: bool = True
  sentences = False

  @property
  def packs(self) -> bool:
    """Whether documents of a row are kept apart."""
    return not self.cross_document

  def plan(self, pieces, frame, width) -> _plan.Plan:
    """Cuts.

    Raises:
      UserError: a tokenizer without an EOS (or SEP) token.
    """
    if frame.eos == _plan.NONE:
      raise UserError(
        "data.arrangement 'chunks' closes documents with EOS, and the "
        "tokenizer has neither EOS nor SEP. Add one to its special tokens."
      )
    closed = pieces.lengths.astype(np.int64) + 1
    ends = np.cumsum(closed)
    total = int(ends[-1]) if len(ends) else 0
    rows = -(-total // width)
    cuts = np.arange(1, rows + 1, dtype=np.int64) * width
    stops = np.union1d(ends, np.minimum(cuts, total))
    begins = np.concatenate([[0], stops[:-1]]).astype(np.int64)
    document = np.searchsorted(ends, begins, side="right")
    closes = stops == ends[document]
    bounds = np.concatenate(
      [[0], np.searchsorted(begins, cuts, side="left")]
    ).astype(np.int64)
    ordinal = _plan.ordinals(bounds)
    spans = len(begins)
    return _plan.Plan(
      bounds=bounds,
      start=begins - document,  # the stream of the cache holds no EOS
      length=(stops - begins - closes).astype(np.int32),
      before=_plan.same(_plan.NONE, spans),
      after=np.where(closes, np.int32(frame.eos), np.int32(_plan.NONE)),
      segment=_plan.same(1, spans) if self.cross_document else ordinal,
    )
