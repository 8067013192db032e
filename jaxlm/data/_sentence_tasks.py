"""Tasks over rows of texts, reworded and masked where that is asked for."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlm.data import _augment, _counter, order
from jaxlm.data._sentence_arrays import Groups, collate, reworded
from jaxlm.data.tasks import EVALUATION_SEED
from jaxlm.types import Batch, Task

# (batch, seed, row numbers, epochs) -> more keys of the batch.
Masked = Callable[[Batch, int, np.ndarray, np.ndarray], Batch]


_STREAMS = 2**16  # numbers of a view; those below are the corruption's


class Making(NamedTuple):
  """How rows become batches.

  Attributes:
    copies: how often each text comes.
    length: tokens a row of the batch.
    tokenizer: of the texts.
    masked: makes a masked view, or None.
    augment: of `_augment`, {} for none.
  """

  copies: int
  length: int
  tokenizer: Any
  masked: Masked | None = None
  augment: Mapping[str, Any] = {}

  def text(self, *drawn) -> Batch:
    """What `batch` is made of, see `Task.text_at`."""
    plain = self._replace(masked=None, augment={}).batch(*drawn)
    reworded = np.full(len(plain["inputs"]), bool(self.augment))
    return as_text(plain) | {"reworded": reworded}

  def batch(self, data: Groups, rows, seed, numbers, epochs) -> Batch:
    """The batch of some rows.

    Args:
      data: all rows.
      rows: int64 [B], which.
      seed: of what is drawn.
      numbers, epochs: int64 [B], what else it is drawn by.
    """
    size = dict(length=self.length, pad=self.tokenizer.pad_id)
    texts, members = data.texts, data.members[rows]
    batch = collate(texts, members, self.copies, **size)
    more = {}
    if self.masked is not None:
      more = self.masked(batch, seed, numbers, epochs)
    if not self.augment:
      return batch | more
    if more:  # of the texts as they are
      more |= {f"corrupted_{k}": batch[k] for k in ("segments", "positions")}
    change = self._change(texts.ids, seed, numbers, epochs)
    changed, members = reworded(texts, members, self.copies, change)
    return collate(changed, members, 1, **size) | more

  def _change(self, ids, seed, numbers, epochs):
    """Rewords the texts of rows, drawn by (seed, number, epoch, view)."""
    front = self.tokenizer.front
    brackets = (front, self.tokenizer.overhead() - front)
    keys = _counter.row_keys(order.signed(seed), numbers, epochs)

    def change(spans, rows, views):
      of_texts = tuple(key[rows] for key in keys)

      def random(stream, count):
        own = _STREAMS * (1 + views) + stream
        return _counter.bits(of_texts, own, count)

      starts = self.tokenizer.word_starts
      return _augment.reworded(
        ids, spans, brackets, starts, random, self.augment
      )

    return change


def training(
  data: Groups, size: int, making: Making, together: int = 1
) -> Task:
  """Batches of seeded permutations of the rows, one an epoch.

  Args:
    data: the rows.
    size: rows of a global batch.
    making: how rows become batches.
    together: rows that follow each other and come in one batch; it divides
      both numbers of rows.
  """

  def drawn(seed, step, part=slice(None)):
    runs, epochs, places = order.copies_of_step(
      seed, step, size, data.rows // together, together
    )
    rows = (runs * together + places)[part]
    return data, rows, seed, rows, epochs[part]

  def batch_at(seed, step, shard=(0, 1)) -> Batch:
    return making.batch(*drawn(seed, step, order.shard_slice(size, shard)))

  return Task(
    "train",
    _spec(data, size, making),
    batch_at,
    data.rows,
    text_at=lambda seed, step: making.text(*drawn(seed, step)),
  )


def evaluation(data: Groups, size: int, making: Making) -> Task:
  """Batches of the rows in their order, over and over; no seed matters.

  The last batch of an epoch is filled up with rows of weight 0.
  """
  steps = -(-data.rows // size)

  def drawn(step, part=slice(None)):
    rows = order.entries(step % steps, size)[part]
    return data, rows % data.rows, EVALUATION_SEED, rows, np.zeros_like(rows)

  def batch_at(seed, step, shard=(0, 1)) -> Batch:
    del seed
    found = drawn(step, order.shard_slice(size, shard))
    batch = making.batch(*found)
    counts = found[3] < data.rows
    return {
      key: (value.T * counts).T if key.endswith("weights") else value
      for key, value in batch.items()
    }

  return Task(
    "validation",
    _spec(data, size, making),
    batch_at,
    data.rows,
    text_at=lambda seed, step: making.text(*drawn(step)),
  )


def as_text(batch: Batch) -> Batch:
  """`tokens` and `segments` of a batch of which nothing is hidden."""
  return {"tokens": batch["inputs"], "segments": batch["segments"]}


def _spec(data, size, making):
  one = np.zeros(1, np.int64)
  batch = making.batch(data, one, 0, one, one)
  return {
    key: jax.ShapeDtypeStruct((size, *value.shape[1:]), value.dtype)
    for key, value in batch.items()
  }
