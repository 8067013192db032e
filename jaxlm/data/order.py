"""The order of training rows: a pure function of (seed, step).

The rows of all steps are the endless concatenation of permutations, one an
epoch. A permutation sorts raw words of the Philox counter generator keyed by
(seed, epoch): numpy promises that stream for ever, which it does not for
`Generator.permutation`, so a batch is the same on every version and machine.
"""

import functools
from collections.abc import Callable

import numpy as np


def entries(step: int, batch_size: int) -> np.ndarray:
  """int64 [batch_size], the numbers of a step's rows in an endless stream."""
  first = step * batch_size
  return np.arange(first, first + batch_size, dtype=np.int64)


def rows_of_step(
  seed: int, step: int, batch_size: int, rows: int
) -> tuple[np.ndarray, np.ndarray]:
  """Which rows make the global batch of a step.

  Reaching any step costs one permutation of its epoch, which is kept for the
  steps that follow.

  Args:
    seed: seed of the order.
    step: step, from 0.
    batch_size: rows of the global batch, B.
    rows: rows of one epoch.

  Returns:
    (indices, epochs), int64 [B] each: the row and the epoch that visits it.

  Raises:
    ValueError: a negative step, or sizes below 1.
  """
  if step < 0 or batch_size < 1 or rows < 1:
    raise ValueError(
      f"step {step}, batch size {batch_size}, rows {rows}: steps start at 0, "
      "sizes at 1"
    )
  return rows_of_entries(seed, entries(step, batch_size), rows)


def rows_of_entries(
  seed: int, numbers: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray]:
  """(indices, epochs) of entries of the concatenation, in any order.

  Args:
    seed: seed of the order.
    numbers: int64 [entries], from 0.
    rows: rows of one epoch.
  """
  epochs, places = np.divmod(numbers, rows)
  indices = np.empty_like(places)
  for epoch in np.unique(epochs):
    of_epoch = epochs == epoch
    order = permutation(int(seed), int(epoch), int(rows))
    indices[of_epoch] = order[places[of_epoch]]
  return indices, epochs


def copies_of_step(
  seed: int,
  step: int,
  batch_size: int,
  rows: int,
  copies: int = 1,
  together: bool = True,
  rows_of: Callable = rows_of_step,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The same where every row comes in several copies.

  Args:
    seed, step, batch_size: as of `rows_of_step`.
    rows: rows before copying.
    copies: copies of each.
    together: all copies of a row next to each other in one batch, whose size
      they divide; else all copies of all rows are shuffled alike.
    rows_of: of an order of `jaxlm.data.orders`, alike.

  Returns:
    (indices, epochs, copy), int64 [B] each; copies count from 0.
  """
  if together:
    indices, epochs = rows_of(seed, step, batch_size // copies, rows)
    copy = np.tile(np.arange(copies, dtype=np.int64), len(indices))
    return np.repeat(indices, copies), np.repeat(epochs, copies), copy
  numbers, epochs = rows_of(seed, step, batch_size, rows * copies)
  indices, copy = np.divmod(numbers, copies)
  return indices, epochs, copy


@functools.lru_cache(maxsize=2)  # a batch may lie across two epochs
def permutation(seed: int, epoch: int, rows: int) -> np.ndarray:
  """The order of one epoch, int64 [rows], read-only."""
  key = np.array([seed % 2**64, epoch], dtype=np.uint64)
  words = np.random.Philox(key=key).random_raw(rows)
  order = np.argsort(words, kind="stable").astype(np.int64)
  order.flags.writeable = False
  return order


def shard_slice(batch_size: int, shard: tuple[int, int]) -> slice:
  """The rows of the global batch that shard (index, count) holds.

  Raises:
    ValueError: an index outside the count, or a batch that does not divide.
  """
  index, count = shard
  if not 0 <= index < count or batch_size % count:
    raise ValueError(
      f"shard {index} of {count} of a batch of {batch_size} rows: the index "
      "counts from 0 and the batch must divide"
    )
  size = batch_size // count
  return slice(index * size, (index + 1) * size)


def signed(seed: int) -> int:
  """A seed as int64; any Python integer will do."""
  return (int(seed) + 2**63) % 2**64 - 2**63
