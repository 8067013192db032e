"""Texts that belong together as tokens, and batches of them."""

import array
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxlm.data import packing
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


class Groups(NamedTuple):
  """Rows of texts that belong together, one or several a row of a batch.

  Attributes:
    texts: the encoded texts, a row of them for each group.
    members: int64 [rows, G], the groups of each row of a batch; -1: none.
  """

  texts: Texts
  members: np.ndarray

  @property
  def rows(self) -> int:
    """Number of rows of a batch."""
    return len(self.members)


def grouped(texts: Texts, making, most: int) -> Groups:
  """Groups packed into rows of `making.length` tokens.

  Args:
    texts: the encoded texts.
    making: whose `copies` say how often each text comes.
    most: groups of a row; with 1 a row is a group, in their order.
  """
  if most == 1:
    return Groups(texts, np.arange(texts.rows, dtype=np.int64)[:, None])
  sizes = np.diff(texts.offsets).reshape(texts.rows, -1).sum(axis=1)
  found = packing.pack(making.copies * sizes, making.length, most)
  counts = np.diff(found.bounds)
  members = np.full((len(counts), most), -1, np.int64)
  members[np.arange(most) < counts[:, None]] = found.items
  return Groups(texts, members)


def collate(
  data: Texts, members: np.ndarray, copies: int, length: int, pad: int
) -> Batch:
  """The batch of some groups: texts of a row packed, each a segment.

  Args:
    data: the encoded texts.
    members: int64 [B, G], groups of each row; -1 for none, behind the others.
    copies: how often each text comes.
    length: tokens a row of the batch, L.
    pad: id of padding.

  Returns:
    `inputs`, `segments`, `positions`, `types` [B, L], `cls_positions` [B, G *
    K] and `view_weights` [B, G, K], K texts a group.
  """
  columns = data.there.shape[1]
  order = np.repeat(np.arange(columns), copies)  # of the texts in a group
  real, groups = members >= 0, np.maximum(members, 0)
  texts = (groups[..., None] * columns + order).reshape(len(members), -1)
  here = np.repeat(real, len(order), axis=1)
  sizes = (data.offsets[texts + 1] - data.offsets[texts]) * here
  begins = np.cumsum(sizes, axis=1) - sizes
  shape = (len(members), length)
  inputs = np.full(shape, pad, np.int32)
  segments, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
  for view in range(texts.shape[1]):
    within = np.arange(sizes[:, view].max(initial=0))
    row, at = np.nonzero(within < sizes[:, view, None])
    place = (row, begins[row, view] + at)
    inputs[place] = data.ids[data.offsets[texts[row, view]] + at]
    segments[place], positions[place] = view + 1, at
  places = np.where(here, begins + data.summaries[texts], 0)
  there = data.there[groups][..., order] & real[..., None]
  return {
    "inputs": inputs,
    "segments": segments,
    "positions": positions,
    "types": np.zeros(shape, np.int32),
    "cls_positions": places.astype(np.int32),
    "view_weights": there.astype(np.float32),
  }


def reworded(
  data: Texts, members: np.ndarray, copies: int, change
) -> tuple[Texts, np.ndarray]:
  """Some groups, every copy of a text in a wording of its own.

  Args:
    data: the encoded texts.
    members: as of `collate`.
    copies: how often each text comes.
    change: int64 [texts, 2], where texts begin and end in `data.ids`, and the
      row and the view in it of each, int64 [texts] -> other ids, one text
      behind the other, and their sizes.

  Returns:
    Texts with `copies` times the columns, and members, for `collate` with one
    copy.
  """
  columns = data.there.shape[1]
  order = np.repeat(np.arange(columns), copies)
  row, slot = np.nonzero(members >= 0)
  groups = members[row, slot]
  texts = (groups[:, None] * columns + order).ravel()
  spans = np.stack([data.offsets[texts], data.offsets[texts + 1]], axis=1)
  views = slot[:, None] * len(order) + np.arange(len(order))
  ids, sizes = change(spans, np.repeat(row, len(order)), views.ravel())
  made = data._replace(
    ids=ids,
    offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    summaries=np.where(data.summaries[texts] == 0, 0, sizes - 1).astype(
      np.int32
    ),
    there=data.there[groups][:, order],
  )
  numbers = np.full(members.shape, -1, np.int64)
  numbers[row, slot] = np.arange(len(groups))
  return made, numbers
