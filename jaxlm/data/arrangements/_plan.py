"""What an arrangement decides (a Plan), and rows made of it."""

from typing import NamedTuple

import numpy as np

from jaxlm.errors import UserError

NONE = -1  # no special token, no label


class Pieces(NamedTuple):
  """The lengths of a tokenized corpus; no tokens.

  Attributes:
    lengths: int32 [pieces], tokens of each document, or of each sentence.
    documents: int64 [documents + 1]; document d is made of the pieces
      documents[d]:documents[d + 1].
  """

  lengths: np.ndarray
  documents: np.ndarray

  @property
  def starts(self) -> np.ndarray:
    """int64 [pieces + 1], where each piece starts in the token stream."""
    starts = np.zeros(len(self.lengths) + 1, np.int64)
    np.cumsum(self.lengths, out=starts[1:])
    return starts


class Frame(NamedTuple):
  """The special tokens around a text and around a pair; NONE where absent.

  `[CLS] a [SEP] b [SEP]` is Frame(CLS, SEP, NONE, SEP, ...); RoBERTa's
  `<s> a </s></s> b </s>` has a `</s>` before b as well.
  """

  before_a: int
  after_a: int
  before_b: int
  after_b: int
  type_b: int
  eos: int

  @classmethod
  def of(cls, tokenizer) -> "Frame":
    """The frame that `tokenizer.bracket` writes."""
    ids, types = tokenizer.bracket([-7], [-8])
    ids, types = list(ids), list(types)
    a, b = ids.index(-7), ids.index(-8)
    outside = (ids[:a], ids[a + 1 : b], ids[b + 1 :])
    middle = outside[1]
    if len(outside[0]) > 1 or len(middle) > 2 or len(outside[2]) > 1:
      raise UserError(
        f"The tokenizer puts {outside} around a pair; at most one special "
        "token before, two between and one after can be packed."
      )
    special = tokenizer.special_ids
    eos = special.get("eos", special.get("sep", NONE))
    return cls(
      before_a=_one(outside[0]),
      after_a=_one(middle[:1]),
      before_b=_one(middle[1:]),
      after_b=_one(outside[2]),
      type_b=int(types[b]),
      eos=eos,
    )

  @property
  def single(self) -> int:
    """Special tokens around a single text."""
    return (self.before_a >= 0) + (self.after_a >= 0)

  @property
  def pair(self) -> int:
    """Special tokens around a pair."""
    return self.single + (self.before_b >= 0) + (self.after_b >= 0)


class Plan(NamedTuple):
  """Rows as spans of the token stream.

  Attributes:
    bounds: int64 [rows + 1]; row r is the spans bounds[r]:bounds[r + 1].
    start: int64 [spans], first token in the stream.
    length: int32 [spans], tokens taken from the stream.
    before, after: int32 [spans], a special token put there, or NONE.
    segment: int32 [spans], from 1 inside each row.
    type: uint8 [spans] sentence A or B, or None where a task has none.
    label: int8 [spans], the label of the text that the span opens, or NONE;
      None where there are no labels.
    least_slots: what `slots` is at least.
  """

  bounds: np.ndarray
  start: np.ndarray
  length: np.ndarray
  before: np.ndarray
  after: np.ndarray
  segment: np.ndarray
  type: np.ndarray | None = None
  label: np.ndarray | None = None
  least_slots: int = 0

  @property
  def rows(self) -> int:
    """Number of rows."""
    return len(self.bounds) - 1

  @property
  def slots(self) -> int:
    """Room for the labelled texts of a row; 0 where there are no labels."""
    if self.label is None or not self.rows:
      return 0
    labelled = np.concatenate([[0], np.cumsum(self.label >= 0)])
    return max(int(np.diff(labelled[self.bounds]).max()), self.least_slots)


def rows_of(counts: np.ndarray) -> np.ndarray:
  """int64 [rows + 1], the bounds of rows with these numbers of spans."""
  return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def ordinals(bounds: np.ndarray) -> np.ndarray:
  """int32 [spans], 1, 2, 3 ... inside each row."""
  spans = np.arange(bounds[-1], dtype=np.int64)
  return (spans - np.repeat(bounds[:-1], np.diff(bounds)) + 1).astype(np.int32)


def same(value: int, count: int) -> np.ndarray:
  """int32 [count] of one value, in no memory."""
  return np.broadcast_to(np.int32(value), (count,))


def fill(
  plan: Plan, ids: np.ndarray, width: int, pad_id: int, first: int, last: int
) -> dict[str, np.ndarray]:
  """The rows first:last of a plan.

  Args:
    plan: what goes where.
    ids: the token stream, uint16 or uint32.
    width: tokens of a row, L.
    pad_id: what stands where nothing does.
    first, last: rows to make, R of them.

  Returns:
    tokens [R, L] of the dtype of ids; segments uint16 [R, L]; and, where the
    plan has them, types uint8 [R, L], cls_positions uint16 [R, K] and labels
    int8 [R, K] with -1 where padded.
  """
  spans = slice(plan.bounds[first], plan.bounds[last])
  rows = last - first
  start, length = plan.start[spans], plan.length[spans].astype(np.int64)
  before, after = plan.before[spans], plan.after[spans]
  opened = (before >= 0).astype(np.int64)
  size = length + opened + (after >= 0)
  row = np.repeat(np.arange(rows), np.diff(plan.bounds[first : last + 1]))
  begin = np.cumsum(size) - size  # in the rows, laid end to end
  row_sizes = np.bincount(row, weights=size, minlength=rows).astype(np.int64)
  column = begin - (np.cumsum(row_sizes) - row_sizes)[row]

  span = np.repeat(np.arange(len(size)), size)
  within = np.arange(len(span)) - begin[span]
  offset = within - opened[span]
  body = (offset >= 0) & (offset < length[span])
  flat = np.empty(len(span), ids.dtype)
  flat[body] = ids[start[span[body]] + offset[body]]
  flat[begin[before >= 0]] = before[before >= 0]
  flat[(begin + size - 1)[after >= 0]] = after[after >= 0]

  where = (row[span], column[span] + within)
  out = {
    "tokens": np.full((rows, width), pad_id, ids.dtype),
    "segments": np.zeros((rows, width), np.uint16),
  }
  out["tokens"][where] = flat
  out["segments"][where] = plan.segment[spans][span]
  if plan.type is not None:
    out["types"] = np.zeros((rows, width), np.uint8)
    out["types"][where] = plan.type[spans][span]
  if plan.label is not None:
    out |= _labels(plan.label[spans], row, column, rows, plan.slots)
  return out


def _labels(label, row, column, rows, slots) -> dict[str, np.ndarray]:
  """Labels and where their texts start, gathered to the left."""
  has = label >= 0
  row, column, label = row[has], column[has], label[has]
  counts = np.bincount(row, minlength=rows)
  slot = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
  positions = np.zeros((rows, slots), np.uint16)
  labels = np.full((rows, slots), NONE, np.int8)
  positions[row, slot] = column
  labels[row, slot] = label
  return {"cls_positions": positions, "labels": labels}


def _one(tokens) -> int:
  return int(tokens[0]) if tokens else NONE
