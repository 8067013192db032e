"""Tasks over a cache: the batch of a step is a function of (seed, step).

Rows are gathered by number in numpy and handed to the preprocessing of a
seqio Task as one batch. So every step is reached at once, batches are the
same on any number of hosts, and a restart needs no state of the pipeline.
"""

from typing import Any

import jax
import numpy as np

from jaxlm.data import order
from jaxlm.errors import UserError
from jaxlm.types import Task

EVALUATION_SEED = 0  # masks of held-out rows never change
COPY_DTYPE = np.uint16


def make(
  cache,
  split: str,
  corruption,
  tokenizer,
  *,
  batch_size: int,
  length: int,
  name: str,
  evaluation: bool = False,
) -> Task:
  """A Task over one split of a cache.

  Args:
    cache: a `jaxlm.data.cache.Cache`.
    split: which of its splits.
    corruption: from the registry `corruptions`.
    tokenizer: a `jaxlm.data.tokenizer.Tokenizer`.
    batch_size: rows of the global batch, B.
    length: tokens that the model reads, L.
    name: what logs call the Task.
    evaluation: rows in their order, masks that depend on the row alone; step
      s is s modulo the steps that hold every row once, and the last of them
      is filled up with padding rows of weight 0.

  A corruption that makes `copies` of a row multiplies the rows of the Task.

  Returns:
    A Task whose `batch_at(seed, step, shard=(0, 1))` gives numpy arrays.

  Raises:
    UserError: fewer rows than one training batch takes; a corruption that
      needs rows of another width, or whose copies do not divide the batch.
  """
  copies = copies_of(corruption, length)
  together = getattr(corruption, "keep_copies_together", True)
  _check(cache, split, corruption, batch_size, length, evaluation)
  if together and not evaluation:
    _check_copies(copies, batch_size)
  # The preprocessing of the seqio Task, on batches: the import takes seconds.
  from jaxlm.data._pipeline import seqio_task, signed

  task = seqio_task(cache, corruption, tokenizer, length)
  corrupt = task.preprocessors[-1].batch
  outputs = corrupt.get_concrete_function().structured_outputs
  rows = cache.rows(split)

  def corrupted(seed, gathered, indices, epochs, copy):
    if copies > 1:
      gathered["copy"] = copy.astype(COPY_DTYPE)
    out = corrupt(
      gathered, np.int64(signed(seed)), np.asarray(indices, np.int64), epochs
    )
    return {key: value.numpy() for key, value in out.items()}

  def training_batch(seed, step, shard=(0, 1)):
    drawn = order.copies_of_step(seed, step, batch_size, rows, copies, together)
    part = order.shard_slice(batch_size, shard)
    indices, epochs, copy = (numbers[part] for numbers in drawn)
    gathered = cache.gather(split, indices)
    return corrupted(seed, gathered, indices, epochs, copy)

  def evaluation_batch(seed, step, shard=(0, 1)):
    del seed
    entries = evaluation_rows(step, batch_size, rows * copies)
    entries = entries[order.shard_slice(batch_size, shard)]
    indices, copy = np.divmod(entries, copies)
    gathered = cache.gather(split, np.maximum(indices, 0))
    _blank(gathered, indices < 0, tokenizer.pad_id or 0)
    epochs = np.zeros(len(indices), np.int64)
    return corrupted(EVALUATION_SEED, gathered, indices, epochs, copy)

  return Task(
    name=name,
    batch_spec=_batch_spec(outputs, batch_size),
    batch_at=evaluation_batch if evaluation else training_batch,
    rows=rows * copies,
  )


def copies_of(corruption, length: int) -> int:
  """Rows of a batch that a corruption makes of one row of the cache."""
  return corruption.copies(length) if hasattr(corruption, "copies") else 1


def files_of(corruption) -> dict[str, str]:
  """path -> sha256 of what a corruption reads beside the rows."""
  return corruption.files() if hasattr(corruption, "files") else {}


def evaluation_rows(step: int, batch_size: int, rows: int) -> np.ndarray:
  """int64 [batch]: rows in their order, -1 where the last batch has none."""
  first = step % -(-rows // batch_size) * batch_size
  indices = np.arange(first, first + batch_size, dtype=np.int64)
  return np.where(indices < rows, indices, -1)


def _blank(gathered, empty, pad_id) -> None:
  """Turns rows into padding, in place."""
  for key, value in gathered.items():
    value[empty] = {"tokens": pad_id, "labels": -1}.get(key, 0)


def _batch_spec(outputs, batch_size) -> dict[str, Any]:
  return {
    key: jax.ShapeDtypeStruct(
      (batch_size, *value.shape[1:]), value.dtype.as_numpy_dtype
    )
    for key, value in outputs.items()
  }


def _check_copies(copies, batch_size) -> None:
  if batch_size % copies:
    below = batch_size - batch_size % copies
    fits = [str(n) for n in (below, below + copies) if n]
    raise UserError(
      f"config.batch_size is {batch_size}, and data.corruption makes {copies} "
      "copies of every row, which belong in one update: take "
      f"{' or '.join(fits)}, or set data.corruption.keep_copies_together=False."
    )


def _check(cache, split, corruption, batch_size, length, evaluation) -> None:
  rows = cache.rows(split) * copies_of(corruption, length)
  if rows < batch_size and not evaluation:
    raise UserError(
      f"The {split} data makes {rows} rows of {length} tokens, fewer than one "
      f"batch of {batch_size}. Lower batch_size or data.length, or add text."
    )
  width = cache.manifest["key"]["width"]
  if width != corruption.text_length(length):
    raise UserError(
      f"The cache holds rows of {width} tokens; a batch of length {length} "
      f"and this corruption take {corruption.text_length(length)}."
    )
