"""Full rows of running text between brackets, across documents.

`unit="sentences"` is RoBERTa's FULL-SENTENCES (arXiv:1907.11692): whole
sentences while they fit, a separator between documents. `unit="tokens"` cuts
anywhere, as the efficient recipe of Wettig et al. (arXiv:2202.08005) does.
Documents of one row see each other; `documents` keeps them apart.
"""

import dataclasses

import numpy as np

from jaxlm.data.arrangements import _plan, arrangements
from jaxlm.errors import UserError, nearest

_UNITS = ("tokens", "sentences")


@arrangements.register("blocks", paper="arXiv:1907.11692")
@dataclasses.dataclass(frozen=True)
class Blocks:
  """`[CLS] running text [SEP]`, one segment a row.

  Attributes:
    unit: where text may be cut: "tokens" or "sentences".
  """

  unit: str = "sentences"
  packs = False  # documents of a row see each other

  def __post_init__(self):
    if self.unit not in _UNITS:
      raise UserError(
        f"data.arrangement.unit is '{self.unit}'."
        f"{nearest(self.unit, _UNITS)} Known: {', '.join(_UNITS)}."
      )

  @property
  def sentences(self) -> bool:
    """Whether documents come cut into sentences."""
    return self.unit == "sentences"

  def plan(self, pieces, frame, width) -> _plan.Plan:
    """Cuts.

    Raises:
      UserError: rows that are too short to hold a token.
    """
    capacity = width - frame.single
    if capacity < 1:
      raise UserError(
        f"data.length is {width}: too short for a token between "
        f"{frame.single} special tokens."
      )
    if self.unit == "tokens":
      return _cut_anywhere(pieces, frame, capacity)
    return _cut_between_sentences(pieces, frame, capacity)


def _cut_anywhere(pieces, frame, capacity):
  total = int(pieces.starts[-1])
  start = np.arange(0, total, capacity, dtype=np.int64)
  rows = len(start)
  return _plan.Plan(
    bounds=np.arange(rows + 1, dtype=np.int64),
    start=start,
    length=np.minimum(capacity, total - start).astype(np.int32),
    before=_plan.same(frame.before_a, rows),
    after=_plan.same(frame.after_a, rows),
    segment=_plan.same(1, rows),
  )


def _cut_between_sentences(pieces, frame, capacity):
  start, length, opens = _sentences(pieces, capacity)
  separator = int(frame.after_a >= 0)
  blocks = _greedy(length, opens * separator, capacity)
  # A span is what one row holds of one document; each ends in a separator.
  is_first = np.zeros(len(length), bool)
  is_first[blocks] = True
  spans = np.flatnonzero(is_first | (opens > 0))
  stops = np.append(spans[1:], len(length))
  ends = start + length
  return _plan.Plan(
    bounds=np.append(np.searchsorted(spans, blocks), len(spans)),
    start=start[spans],
    length=(ends[stops - 1] - start[spans]).astype(np.int32),
    before=np.where(is_first[spans], frame.before_a, _plan.NONE).astype(
      np.int32
    ),
    after=_plan.same(frame.after_a, len(spans)),
    segment=_plan.same(1, len(spans)),
  )


def _sentences(pieces, capacity):
  """Starts, lengths, and 1 where a document opens; long sentences cut."""
  lengths = pieces.lengths.astype(np.int64)
  parts = -(-lengths // capacity)
  sentence = np.repeat(np.arange(len(lengths)), parts)
  offset = (_plan.ordinals(_plan.rows_of(parts)) - 1) * np.int64(capacity)
  opens = np.zeros(len(lengths) + 1, np.int64)
  opens[pieces.documents[:-1]] = 1
  size = np.minimum(lengths[sentence] - offset, capacity)
  start = pieces.starts[:-1][sentence] + offset
  return start, size, opens[sentence] * (offset == 0)


def _greedy(length, extra, capacity) -> np.ndarray:
  """First sentences of the rows; `extra` is paid unless it opens a row."""
  reach = np.concatenate([[0], np.cumsum(length + extra)])
  first, at = [], 0
  while at < len(length):
    first.append(at)
    room = reach[at] + extra[at] + capacity
    at = int(np.searchsorted(reach, room, side="right")) - 1
  return np.asarray(first, np.int64)
