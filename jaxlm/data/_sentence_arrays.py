"""Texts that belong together as tokens, and batches of them."""

import array
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxlm.data._sentence_rows import Row
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.types import Batch

_AT_ONCE = 4096  # rows tokenized together


class Texts(NamedTuple):
  """Bracketed texts, those of a row one behind the other.

  Attributes:
    ids: int32 [tokens].
    offsets: int64 [rows * columns + 1], where each text begins.
    summaries: int32 [rows * columns], where a text is read as a whole.
    there: bool [rows, columns], False where a text is blank.
    cut: texts that lost tokens.
    blank: rows left out, because one of their first two texts is blank.
  """

  ids: np.ndarray
  offsets: np.ndarray
  summaries: np.ndarray
  there: np.ndarray
  cut: int
  blank: int

  @property
  def rows(self) -> int:
    """Number of rows."""
    return len(self.there)

  def take(self, rows: np.ndarray) -> "Texts":
    """Some of the rows, in the order given; the counts stay."""
    columns = self.there.shape[1]
    texts = (rows[:, None] * columns + np.arange(columns)).ravel()
    spans = zip(self.offsets[texts], self.offsets[texts + 1])
    parts = [self.ids[slice(*span)] for span in spans]
    sizes = [len(part) for part in parts]
    return self._replace(
      ids=np.concatenate(parts),
      offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
      summaries=self.summaries[texts],
      there=self.there[rows],
    )

  def text(self, number: int) -> np.ndarray:
    """The ids of a text, counted through all rows."""
    return self.ids[self.offsets[number] : self.offsets[number + 1]]


def encode(rows: Iterable[Row], tokenizer: Tokenizer, length: int) -> Texts:
  """Texts cut to `length` tokens, brackets included."""
  ids: array.array = array.array("i")
  offsets, summaries = array.array("q", [0]), array.array("i")
  there: list[list[bool]] = []
  room, cut, blank = length - tokenizer.overhead(), 0, 0
  stream = iter(rows)
  while batch := list(itertools.islice(stream, _AT_ONCE)):
    found = iter(tokenizer.encode_batch([t for r in batch for t in r.texts]))
    for row in batch:
      texts = list(itertools.islice(found, len(row.texts)))
      if not all(texts[:2]):
        blank += 1
        continue
      there.append([bool(text) for text in texts])
      for text in texts:
        cut += len(text) > room
        made, _ = tokenizer.bracket(text[:room])
        ids.extend(made)
        offsets.append(len(ids))
        summaries.append(tokenizer.summary_position(made))
  return Texts(
    np.array(ids, np.int32),
    np.array(offsets, np.int64),
    np.array(summaries, np.int32),
    np.array(there, bool),
    cut,
    blank,
  )


def collate(
  data: Texts, rows: np.ndarray, copies: int, length: int, pad: int
) -> Batch:
  """The batch of some rows: texts of a row packed, each a segment.

  Args:
    data: the encoded rows.
    rows: int64 [B], which.
    copies: how often each text comes.
    length: tokens a row of the batch, L.
    pad: id of padding.

  Returns:
    `inputs`, `segments`, `positions`, `types` [B, L], `cls_positions` and
    `view_weights` [B, K], K texts a row.
  """
  columns = data.there.shape[1]
  order = np.repeat(np.arange(columns), copies)  # of the texts in a row
  texts = rows[:, None] * columns + order
  sizes = data.offsets[texts + 1] - data.offsets[texts]
  begins = np.cumsum(sizes, axis=1) - sizes
  shape = (len(rows), length)
  inputs = np.full(shape, pad, np.int32)
  segments, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
  for view in range(texts.shape[1]):
    within = np.arange(sizes[:, view].max(initial=0))
    row, at = np.nonzero(within < sizes[:, view, None])
    place = (row, begins[row, view] + at)
    inputs[place] = data.ids[data.offsets[texts[row, view]] + at]
    segments[place], positions[place] = view + 1, at
  return {
    "inputs": inputs,
    "segments": segments,
    "positions": positions,
    "types": np.zeros(shape, np.int32),
    "cls_positions": (begins + data.summaries[texts]).astype(np.int32),
    "view_weights": data.there[rows][:, order].astype(np.float32),
  }


def reworded(
  data: Texts, rows: np.ndarray, copies: int, change
) -> tuple[Texts, np.ndarray]:
  """Some rows, every copy of a text in a wording of its own.

  Args:
    data: the encoded rows.
    rows: int64 [B], which.
    copies: how often each text comes.
    change: int64 [B * K, 2], where the texts of all rows begin and end in
      `data.ids` -> other ids, one text behind the other, and their sizes.

  Returns:
    Rows with `copies` times the columns, for `collate` with one copy, and
    their numbers.
  """
  columns = data.there.shape[1]
  order = np.repeat(np.arange(columns), copies)
  texts = (rows[:, None] * columns + order).ravel()
  spans = np.stack([data.offsets[texts], data.offsets[texts + 1]], axis=1)
  ids, sizes = change(spans)
  made = data._replace(
    ids=ids,
    offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    summaries=np.where(data.summaries[texts] == 0, 0, sizes - 1).astype(
      np.int32
    ),
    there=data.there[rows][:, order],
  )
  return made, np.arange(len(rows))
