"""Tasks whose batches hold rows of several caches."""

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from jaxlm.data import order, tasks
from jaxlm.data._shares import Shares
from jaxlm.errors import UserError
from jaxlm.types import Task


class Source(NamedTuple):
  """One of the sources of a split.

  Attributes:
    name: in the config.
    reader: of its rows.
    rows_of: `rows_of_entries` of its order.
  """

  name: str
  reader: tasks.Reader
  rows_of: Callable


def training(sources: list[Source], shares: Shares) -> Task:
  """Rows drawn from all sources, each of which goes on where it stopped.

  As in a seqio Mixture every source is an endless stream in its own order;
  rates say how often the next row is its. The batch of a step is a function of
  (seed, step).
  """
  size = shares.batch_size

  def drawn(seed, step):
    which = shares.sources(seed, step)
    first = shares.before(seed, step)
    numbers = np.empty(size, np.int64)  # places in the source's stream
    for index, count in enumerate(shares.counts(seed, step)):
      numbers[which == index] = first[index] + np.arange(count)
    return which, numbers

  def batch_at(seed, step, shard=(0, 1)):
    part = order.shard_slice(size, shard)
    rows = (found[part] for found in drawn(seed, step))
    return _read(sources, *rows, seed)

  return Task(
    name="train",
    batch_spec=tasks.batch_spec(_features(sources), size),
    batch_at=batch_at,
    rows=sum(source.reader.rows for source in sources),
    text_at=lambda seed, step: _text(sources, *drawn(seed, step), seed),
  )


def evaluation(sources: list[Source], batch_size: int) -> Task:
  """Every row once, the sources spread evenly; nothing is random."""
  which, numbers = _spread([source.reader.rows for source in sources])

  def drawn(step):
    rows = tasks.evaluation_rows(step, batch_size, len(which))
    real = np.maximum(rows, 0)
    return which[real], np.where(rows < 0, -1, numbers[real])

  def batch_at(seed, step, shard=(0, 1)):
    del seed
    part = order.shard_slice(batch_size, shard)
    return _read(sources, *(found[part] for found in drawn(step)), None)

  return Task(
    name="validation",
    batch_spec=tasks.batch_spec(_features(sources), batch_size),
    batch_at=batch_at,
    rows=len(which),
    text_at=lambda seed, step: _text(sources, *drawn(step), None),
  )


def _read(sources, which, numbers, seed, read=tasks.Reader.read) -> dict:
  """Rows of all sources in their places; `seed` None: rows as numbered."""
  out = {}
  for index in np.unique(which):
    source, places = sources[index], which == index
    if seed is None:
      indices, epochs = numbers[places], np.zeros(places.sum(), np.int64)
      own = tasks.EVALUATION_SEED
    else:
      own = seed_of(seed, source.name)
      indices, epochs = source.rows_of(own, numbers[places], source.reader.rows)
    for key, value in read(source.reader, own, indices, epochs).items():
      if key not in out:
        out[key] = np.empty((len(which), *value.shape[1:]), value.dtype)
      out[key][places] = value
  return out


def _text(sources, which, numbers, seed) -> dict:
  """The same before corruption, and the `source` of each row."""
  names = np.array([source.name for source in sources])
  found = _read(sources, which, numbers, seed, tasks.Reader.text)
  return found | {"source": names[which]}


def seed_of(seed: int, name: str) -> int:
  """The seed of a source, which the other sources do not change."""
  digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
  return (seed + int.from_bytes(digest)) % 2**64


def _spread(rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
  """(source, row) int64 of all rows, each source at its own even pace."""
  which = np.repeat(np.arange(len(rows)), rows)
  numbers = np.concatenate([np.arange(n, dtype=np.int64) for n in rows])
  pace = np.concatenate([(np.arange(n) + 0.5) / n for n in rows])
  placed = np.argsort(pace, kind="stable")
  return which[placed], numbers[placed]


def _features(sources) -> Mapping:
  """The features of all sources, which must be the same.

  Raises:
    UserError: they are not.
  """
  first, *others = sources
  for other in others:
    if other.reader.features != first.reader.features:
      raise UserError(
        f"data.sources.{other.name} makes {_told(other)}, but "
        f"data.sources.{first.name} makes {_told(first)}: rows of one batch "
        "have one shape. Give both the same length, arrangement and "
        "corruption."
      )
  return first.reader.features


def _told(source) -> str:
  return ", ".join(
    f"{key} {list(shape)}"
    for key, (shape, _) in sorted(source.reader.features.items())
  )
