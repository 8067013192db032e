"""Tasks over rows of texts, some of them with a masked second view."""

from collections.abc import Callable

import jax
import numpy as np

from jaxlm.data import order
from jaxlm.data._sentence_arrays import Texts, collate
from jaxlm.data.tasks import EVALUATION_SEED
from jaxlm.types import Batch, Task

# (batch, seed, row numbers, epochs) -> more keys of the batch.
Masked = Callable[[Batch, int, np.ndarray, np.ndarray], Batch]


def training(data: Texts, size: int, made: dict, masked: Masked | None) -> Task:
  """Batches of seeded permutations of the rows, one an epoch.

  Args:
    data: the rows.
    size: rows of a global batch.
    made: how rows become batches, arguments of `collate`.
    masked: makes the second view, or None.
  """

  def batch_at(seed, step, shard=(0, 1)) -> Batch:
    rows, epochs = order.rows_of_step(seed, step, size, data.rows)
    part = order.shard_slice(size, shard)
    batch = collate(data, rows[part], **made)
    return _with(batch, masked, seed, rows[part], epochs[part])

  return Task("train", _spec(data, size, made, masked), batch_at, data.rows)


def evaluation(
  data: Texts, size: int, made: dict, masked: Masked | None
) -> Task:
  """Batches of the rows in their order, over and over; no seed matters.

  The last batch of an epoch is filled up with rows of weight 0.
  """
  steps = -(-data.rows // size)

  def batch_at(seed, step, shard=(0, 1)) -> Batch:
    del seed
    first = step % steps * size
    rows = np.arange(first, first + size, dtype=np.int64)
    rows = rows[order.shard_slice(size, shard)]
    batch = collate(data, rows % data.rows, **made)
    epochs = np.zeros(len(rows), np.int64)
    batch = _with(batch, masked, EVALUATION_SEED, rows, epochs)
    counts = (rows < data.rows)[:, None]
    return {
      key: value * counts if key.endswith("weights") else value
      for key, value in batch.items()
    }

  spec = _spec(data, size, made, masked)
  return Task("validation", spec, batch_at, data.rows)


def _with(batch, masked, seed, rows, epochs) -> Batch:
  if masked is None:
    return batch
  return batch | masked(batch, seed, rows, epochs)


def _spec(data, size, made, masked):
  one = np.zeros(1, np.int64)
  batch = _with(collate(data, one, **made), masked, 0, one, one)
  return {
    key: jax.ShapeDtypeStruct((size, *value.shape[1:]), value.dtype)
    for key, value in batch.items()
  }
