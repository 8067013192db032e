"""Tasks over encoded labelled rows."""

import jax
import numpy as np

from jaxlm.data import order
from jaxlm.data._labelled_arrays import NO_TAG, Encoded
from jaxlm.types import Batch, BatchSpec, Task


def training(data: Encoded, batch_size: int, length: int, pad: int) -> Task:
  """Batches of seeded permutations of the rows, one an epoch."""

  def batch_at(seed, step, shard=(0, 1)) -> Batch:
    rows, _ = order.rows_of_step(seed, step, batch_size, data.rows)
    rows = rows[order.shard_slice(batch_size, shard)]
    return collate(data, rows, np.ones(len(rows), bool), length, pad)

  return Task("train", spec(data, batch_size, length), batch_at, data.rows)


def balanced(data: Encoded, batch_size: int, length: int, pad: int) -> Task:
  """Batches with as many rows of each class, up to one.

  Row r of a batch is of class r modulo the classes; each class goes through
  seeded permutations of its own rows, so rare ones come more often.
  """
  classes = [np.flatnonzero(data.labels == c) for c in np.unique(data.labels)]
  taken = np.arange(batch_size) % len(classes)

  def batch_at(seed, step, shard=(0, 1)) -> Batch:
    rows = np.empty(batch_size, np.int64)
    for number, own in enumerate(classes):
      places = np.flatnonzero(taken == number)
      if len(places):
        drawn, _ = order.rows_of_step(
          seed + number, step, len(places), len(own)
        )
        rows[places] = own[drawn]
    rows = rows[order.shard_slice(batch_size, shard)]
    return collate(data, rows, np.ones(len(rows), bool), length, pad)

  return Task("train", spec(data, batch_size, length), batch_at, data.rows)


def evaluation(
  data: Encoded, batch_size: int, length: int, pad: int, name: str
) -> Task:
  """Batches of the rows in their order, over and over; no seed matters.

  The last batch of an epoch is filled up with rows of weight 0, so that each
  row counts once.
  """
  steps = -(-data.rows // batch_size)

  def batch_at(seed, step, shard=(0, 1)) -> Batch:
    del seed
    first = step % steps * batch_size
    rows = np.arange(first, first + batch_size, dtype=np.int64)
    rows = rows[order.shard_slice(batch_size, shard)]
    return collate(data, rows % data.rows, rows < data.rows, length, pad)

  return Task(name, spec(data, batch_size, length), batch_at, data.rows)


def collate(
  data: Encoded, rows: np.ndarray, counts: np.ndarray, length: int, pad: int
) -> Batch:
  """The batch of some rows.

  Args:
    data: the encoded rows.
    rows: int64 [B], which.
    counts: bool [B], whose labels have weight.
    length: tokens a row, L.
    pad: id of padding.
  """
  starts = data.offsets[rows]
  lengths = data.offsets[rows + 1] - starts
  columns = np.arange(length, dtype=np.int64)[None, :]
  real = columns < lengths[:, None]
  places = np.where(real, starts[:, None] + columns, 0)
  batch = {
    "inputs": np.where(real, data.ids[places], pad).astype(np.int32),
    "segments": real.astype(np.int32),
    "positions": np.where(real, columns, 0).astype(np.int32),
    "types": np.where(real, data.types[places], 0).astype(np.int32),
  }
  if data.tagged:
    tags = np.where(real, data.labels[places], NO_TAG)
    weights = (tags != NO_TAG) & counts[:, None]
    batch["tags"] = np.where(weights, tags, 0).astype(np.int32)
    batch["tag_weights"] = weights.astype(np.float32)
    return batch
  batch["cls_positions"] = data.summaries[rows][:, None]
  batch["labels"] = data.labels[rows][:, None]
  batch["label_weights"] = counts.astype(np.float32)[:, None]
  return batch


def spec(data: Encoded, batch_size: int, length: int) -> BatchSpec:
  """Shapes and dtypes of a global batch."""
  row, one = (batch_size, length), (batch_size, 1)
  keys = {
    key: (row, np.int32) for key in ("inputs", "segments", "positions", "types")
  }
  if data.tagged:
    keys |= {"tags": (row, np.int32), "tag_weights": (row, np.float32)}
  else:
    keys |= {
      "cls_positions": (one, np.int32),
      "labels": (one, data.labels.dtype),
      "label_weights": (one, np.float32),
    }
  return {k: jax.ShapeDtypeStruct(*of) for k, of in keys.items()}
