"""How often runs of 1 to 5 words occur in a corpus: one pass, bounded memory.

Words become numbers. Text is counted in shards of some million words, longer
runs only where the shorter one they begin with occurred twice, and what occurs
once in a shard is dropped. A part of a run is in every shard at least as often
as the run, so it is kept wherever the run is.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from jaxlm.data import _words

LONGEST = 5
SHARD = 1 << 21  # words
ENTRIES = 1 << 24  # runs held at most
_BREAK = -1


class Counts:
  """Counts of runs of words.

  Attributes:
    words: word -> number.
    totals: int64 [LONGEST], runs of each length in the corpus, all of them.
    runs: for each length but the first, bytes of int32 numbers -> count.
    single: int64 [words], counts of single words.
    sample: int32, the numbers of the first shard, -1 between texts.
    floor: runs that occurred less often were dropped for want of memory.
  """

  def __init__(self, documents: Iterable[str], shard=SHARD, entries=ENTRIES):
    self.words: dict[str, int] = {}
    self.totals = np.zeros(LONGEST, np.int64)
    self.runs: tuple[dict[bytes, int], ...] = tuple(
      {} for _ in range(LONGEST - 1)
    )
    self.single = np.zeros(0, np.int64)
    self.sample = np.zeros(0, np.int32)
    self.floor = 2
    for ids in self._shards(documents, shard):
      if not len(self.sample):
        self.sample = ids
      self._add(ids)
      self._prune(entries)

  def count(self, run: tuple[int, ...]) -> int:
    """How often a run of numbers occurs; 0 where it was dropped."""
    if len(run) == 1:
      return int(self.single[run[0]])
    return self.runs[len(run) - 2].get(np.array(run, np.int32).tobytes(), 0)

  def _shards(self, documents, size) -> Iterator[np.ndarray]:
    parts, held = [], 0
    for text in documents:
      parts.append(self._numbers(text))
      held += len(parts[-1])
      if held >= size:
        yield np.concatenate(parts)
        parts, held = [], 0
    if parts:
      yield np.concatenate(parts)

  def _numbers(self, text) -> np.ndarray:
    known = self.words
    found = [
      known.setdefault(word, len(known)) if _words.is_word(word) else _BREAK
      for word in _words.words(text)
    ]
    return np.array([*found, _BREAK], np.int32)

  def _add(self, ids) -> None:
    known = np.bincount(ids[ids >= 0], minlength=len(self.words))
    known[: len(self.single)] += self.single
    self.single = known.astype(np.int64)
    whole = ids >= 0
    self.totals[0] += whole.sum()
    kept = ids.astype(np.int64)  # a number for the run that begins here, or -1
    for n in range(2, LONGEST + 1):
      whole = whole[:-1] & (ids[n - 1 :] >= 0)
      self.totals[n - 1] += whole.sum()
      kept = kept[:-1]
      places = np.flatnonzero(whole & (kept >= 0))
      key = kept[places] * len(self.words) + ids[places + n - 1]
      _, first, inverse, count = np.unique(
        key, return_index=True, return_inverse=True, return_counts=True
      )
      often = count >= 2
      number = np.where(often, np.cumsum(often) - 1, -1)
      kept = np.full(len(whole), -1, np.int64)
      kept[places] = number[inverse]
      rows = ids[places[first[often]][:, None] + np.arange(n)]
      _merge(self.runs[n - 2], rows, count[often])

  def _prune(self, entries) -> None:
    while sum(map(len, self.runs)) > entries:
      self.floor += 1
      self.runs = tuple(
        {run: count for run, count in held.items() if count >= self.floor}
        for held in self.runs
      )


def _merge(held, rows, counts) -> None:
  rows = np.ascontiguousarray(rows, np.int32)
  for row, count in zip(rows, counts.tolist()):
    run = row.tobytes()
    held[run] = held.get(run, 0) + count
