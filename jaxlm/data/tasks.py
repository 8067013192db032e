"""Tasks over a cache: the batch of a step is a function of (seed, step).

Rows are gathered by number in numpy and handed to the preprocessing of a
seqio Task as one batch. So every step is reached at once, batches are the
same on any number of hosts, and a restart needs no state of the pipeline.
"""

from collections.abc import Callable

import jax
import numpy as np

from jaxlm.data import order
from jaxlm.errors import UserError
from jaxlm.types import Batch, Task

EVALUATION_SEED = 0  # masks of held-out rows never change
COPY_DTYPE = np.uint16


class Reader:
  """Rows of one split of a cache, corrupted: what Tasks are made of.

  Attributes:
    rows: rows of the split.
    copies: rows that the corruption makes of one.
    features: key -> (shape of a row, dtype).
  """

  def __init__(self, cache, split: str, corruption, tokenizer, length: int):
    # The preprocessing of the seqio Task, on batches: the import takes seconds.
    from jaxlm.data._pipeline import seqio_task, taken

    task = seqio_task(cache, corruption, tokenizer, length)
    self._cache, self._split = cache, split
    self._corrupt = task.preprocessors[-1].batch
    self._taken = taken(corruption, length)
    self._pad = tokenizer.pad_id or 0
    self.rows = cache.rows(split)
    self.copies = copies_of(corruption, length)
    outputs = self._corrupt.get_concrete_function().structured_outputs
    self.features = {
      key: (tuple(value.shape[1:]), value.dtype.as_numpy_dtype)
      for key, value in outputs.items()
    }

  def read(self, seed, indices, epochs, copy=None) -> Batch:
    """The features of rows.

    Args:
      seed: of the random numbers.
      indices: int64 [rows]; where negative, a row of padding.
      epochs: int64 [rows], the visit, which the random numbers depend on.
      copy: int64 [rows], which copy; None where there is one of each.
    """
    gathered = self._gather(indices)
    if self.copies > 1:
      gathered["copy"] = copy.astype(COPY_DTYPE)
    seed = np.int64(order.signed(seed))
    out = self._corrupt(gathered, seed, np.asarray(indices, np.int64), epochs)
    return {key: value.numpy() for key, value in out.items()}

  def text(self, seed, indices, epochs) -> Batch:
    """`tokens` and `segments` before corruption, [rows, text length]."""
    gathered = self._gather(indices)
    text = {key: gathered[key] for key in ("tokens", "segments")}
    return self._taken(text, seed, indices, epochs)

  def _gather(self, indices) -> dict[str, np.ndarray]:
    gathered = self._cache.gather(self._split, np.maximum(indices, 0))
    _blank(gathered, indices < 0, self._pad)
    return gathered


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
  rows_of: Callable = order.rows_of_step,
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
    rows_of: the `rows_of_step` of an order of training rows.

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
  reader = Reader(cache, split, corruption, tokenizer, length)
  rows = reader.rows
  if not evaluation:  # what does not fit shows now
    rows_of(0, 0, batch_size, rows)

  seed_of = (
    (lambda seed: EVALUATION_SEED) if evaluation else (lambda seed: seed)
  )

  def drawn(seed, step):  # (indices, epochs, copy) of the global batch
    if not evaluation:
      return order.copies_of_step(
        seed, step, batch_size, rows, copies, together, rows_of
      )
    entries = evaluation_rows(step, batch_size, rows * copies)
    indices, copy = np.divmod(entries, copies)
    return indices, np.zeros_like(indices), copy

  def batch_at(seed, step, shard=(0, 1)):
    part = order.shard_slice(batch_size, shard)
    numbers = (found[part] for found in drawn(seed, step))
    return reader.read(seed_of(seed), *numbers)

  def text_at(seed, step):
    indices, epochs, _ = drawn(seed, step)
    return reader.text(seed_of(seed), indices, epochs)

  return Task(
    name=name,
    batch_spec=batch_spec(reader.features, batch_size),
    batch_at=batch_at,
    rows=rows * copies,
    text_at=text_at,
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


def batch_spec(features, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
  """The shapes of a batch from those of a row."""
  return {
    key: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
    for key, (shape, dtype) in features.items()
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
