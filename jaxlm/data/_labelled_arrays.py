"""Labelled rows as arrays of tokens."""

import array
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxlm.data._labelled_rows import Row
from jaxlm.data.tokenizer import Tokenizer

_AT_ONCE = 4096  # rows tokenized together
NO_TAG = -1


class Encoded(NamedTuple):
  """Bracketed rows, one behind the other.

  Attributes:
    ids: int32 [tokens].
    types: int8 [tokens], sentence A or B.
    offsets: int64 [rows + 1], where each row begins and the last ends.
    summaries: int32 [rows], where a row is read as a whole.
    labels: int32 or float32 [rows]; or tags, int32 [tokens], `NO_TAG` where a
      token has none.
    tagged: whether the labels are tags.
    cut: rows that lost tokens; of tagged sentences, those that go on in a
      further row.
    blank: rows without a token, left out.
  """

  ids: np.ndarray
  types: np.ndarray
  offsets: np.ndarray
  summaries: np.ndarray
  labels: np.ndarray
  tagged: bool
  cut: int
  blank: int

  @property
  def rows(self) -> int:
    """Number of rows."""
    return len(self.offsets) - 1

  def take(self, rows: np.ndarray) -> "Encoded":
    """Some of the rows, in the order given; the counts stay."""
    spans = zip(self.offsets[rows], self.offsets[rows + 1])
    places = np.concatenate([np.arange(*span) for span in spans])
    lengths = self.offsets[rows + 1] - self.offsets[rows]
    return self._replace(
      ids=self.ids[places],
      types=self.types[places],
      offsets=np.concatenate([[0], np.cumsum(lengths)]),
      summaries=self.summaries[rows],
      labels=self.labels[places if self.tagged else rows],
    )


def texts(
  rows: Iterable[Row],
  tokenizer: Tokenizer,
  length: int,
  label_of: Callable[[Row], int | float],
  dtype,
) -> Encoded:
  """Texts and pairs, cut to `length` from the longer side.

  Args:
    rows: of the readers.
    tokenizer: cuts and brackets.
    length: most tokens a row, brackets included.
    label_of: the label of a row as a number.
    dtype: of the labels.
  """
  made = _Builder(tokenizer)
  labels = []
  for batch in _batches(rows):
    firsts = tokenizer.encode_batch([row.text for row in batch])
    seconds = tokenizer.encode_batch([row.pair or "" for row in batch])
    for row, a, b in zip(batch, firsts, seconds):
      label = label_of(row)
      if not a and not b:
        made.blank += 1
        continue
      b = None if row.pair is None else b
      room = length - tokenizer.overhead(b is not None)
      kept = longest_first(len(a), len(b or ()), room)
      made.cut += kept != (len(a), len(b or ()))
      made.add(a[: kept[0]], b and b[: kept[1]])
      labels.append(label)
  return made.done(np.array(labels, dtype))


def longest_first(a: int, b: int, room: int) -> tuple[int, int]:
  """Lengths of a pair after tokens were taken from the longer until it fits.

  From the second where both are of one length, as BERT does.
  """
  excess = max(a + b - room, 0)
  level = min(excess, abs(a - b))
  a, b = (a - level, b) if a > b else (a, b - level)
  excess -= level
  return a - excess // 2, b - (excess + 1) // 2


def tagged(
  rows: Iterable[Row],
  tokenizer: Tokenizer,
  length: int,
  tags_of: Callable[[Row], list[int]],
) -> Encoded:
  """Tagged words; the first piece of a word carries its tag.

  A sentence longer than a row goes on in a further one, so that every word
  is trained on and predicted.
  """
  made = _Builder(tokenizer)
  labels: array.array = array.array("i")
  room = length - tokenizer.overhead()
  for batch in _batches(rows):
    pieces = iter(_words(tokenizer, [row.text for row in batch]))
    for row in batch:
      words = [next(pieces)[:room] for _ in row.text]
      parts = list(_parts(words, tags_of(row), room))
      made.cut += len(parts) > 1
      for ids, tags in parts:
        size = made.add(ids, None)
        front = [NO_TAG] * tokenizer.front
        behind = [NO_TAG] * (size - len(ids) - len(front))
        labels.extend([*front, *tags, *behind])
  return made.done(np.array(labels, np.int32), tagged=True)


def _words(tokenizer, sentences) -> list[list[int]]:
  """The pieces of each word; a word without any is unknown, or padding."""
  space = " " if tokenizer.kind == "byte_bpe" else ""
  texts = [
    f"{space}{word}" if i else word
    for words in sentences
    for i, word in enumerate(words)
  ]
  nothing = [tokenizer.special_ids.get("unk", tokenizer.pad_id)]
  return [ids or nothing for ids in tokenizer.encode_batch(texts)]


def _parts(words, tags, room) -> Iterator[tuple[list[int], list[int]]]:
  ids, marks = [], []
  for pieces, tag in zip(words, tags):
    if ids and len(ids) + len(pieces) > room:
      yield ids, marks
      ids, marks = [], []
    ids = [*ids, *pieces]
    marks = [*marks, tag, *[NO_TAG] * (len(pieces) - 1)]
  if ids:
    yield ids, marks


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
  stream = iter(rows)
  while batch := list(itertools.islice(stream, _AT_ONCE)):
    yield batch


class _Builder:
  """Gathers bracketed rows."""

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    self._ids, self._types = array.array("i"), array.array("b")
    self._offsets, self._summaries = array.array("q", [0]), array.array("i")
    self.cut = self.blank = 0

  def add(self, a, b) -> int:
    """Adds a row and gives its length."""
    ids, types = self._tokenizer.bracket(a, b)
    self._ids.extend(ids)
    self._types.extend(types)
    self._offsets.append(len(self._ids))
    self._summaries.append(self._tokenizer.summary_position(ids))
    return len(ids)

  def done(self, labels: np.ndarray, *, tagged: bool = False) -> Encoded:
    """The arrays."""
    return Encoded(
      ids=np.array(self._ids, np.int32),
      types=np.array(self._types, np.int8),
      offsets=np.array(self._offsets, np.int64),
      summaries=np.array(self._summaries, np.int32),
      labels=labels,
      tagged=tagged,
      cut=self.cut,
      blank=self.blank,
    )
