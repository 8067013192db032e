"""The vocabulary of PMI masking: runs of words that belong together.

Levine et al., arXiv:2010.01825. A run of 2 to 5 words scores the logarithm of
its share of all runs over the product of the shares of its parts, for the way
to cut it that explains it best (eq. 3): "the X of" scores low, however often
it occurs. Each length gets its part of the list.
"""

import hashlib
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxlm import errors, files
from jaxlm.data import _ngrams

SHARES = {2: 0.5, 3: 0.25, 4: 0.125, 5: 0.125}
_TITLE = "# PMI vocabulary of jaxlm, format 1"
_HASH = "# sha256 of the lines below: "


class Run(NamedTuple):
  """A run of words: its text, its count and its score in nats."""

  text: str
  count: int
  pmi: float


class Vocabulary(NamedTuple):
  """Runs, best first within each length, and what is known of them."""

  runs: list[Run]
  facts: Mapping[str, Any]


def build(
  documents: Iterable[str],
  *,
  size: int = 0,
  coverage: float = 0.5,
  min_count: int = 11,
) -> Vocabulary:
  """Counts a corpus and ranks its runs of words.

  Args:
    documents: texts, streamed.
    size: runs of the vocabulary (800,000 for 16 GB in the paper); 0: as many
      as it takes to cover `coverage` of the words.
    coverage: share of words inside some run, measured on the first words.
    min_count: rarer runs are left out; the paper's are above 10.

  Raises:
    UserError: a number out of its range, or no run that is frequent enough.
  """
  _check(size, coverage, min_count)
  counts = _ngrams.Counts(documents)
  if min_count < counts.floor:
    raise errors.UserError(
      f"--min_count is {min_count}, but runs of words that occur less than "
      f"{counts.floor} times were dropped for want of memory: raise it."
    )
  ranked = {n: _ranked(counts, n, min_count) for n in SHARES}
  if not any(ranked.values()):
    raise errors.UserError(
      f"No run of words occurs {min_count} times: give more text, or lower "
      "--min_count."
    )
  needed = _needed(counts, ranked)
  size = size or _size(needed, coverage)
  runs = [run for n, found in ranked.items() for run in found[: _part(n, size)]]
  words = list(counts.words)
  facts = dict(
    words=int(counts.totals[0]),
    size=size,
    min_count=min_count,
    coverage=round(float((needed <= size).mean()), 4),
  )
  text = lambda run: " ".join(words[i] for i in run)
  return Vocabulary([Run(text(r), c, s) for r, c, s in runs], facts)


def write(vocabulary: Vocabulary, path) -> None:
  """Writes lines that one can read: the run, its count, its score."""
  body = "".join(f"{r.text}\t{r.count}\t{r.pmi:.4f}\n" for r in vocabulary.runs)
  told = "".join(f"# {k}: {v}\n" for k, v in vocabulary.facts.items())
  with files.replacing(path) as file:
    file.write(f"{_TITLE}\n{told}{_HASH}{_digest(body)}\n{body}")


def read(path) -> list[Run]:
  """The runs of a file that `write` wrote.

  Raises:
    UserError: no such file, another kind of file, or a damaged one.
  """
  path = pathlib.Path(path).expanduser()
  where = "data.corruption.unit.vocabulary"
  if not path.is_file():
    near = [p.name for p in path.parent.glob("*")]
    raise errors.UserError(
      f"{where} is '{path}', which is no file."
      f"{errors.nearest(path.name, near)} Make one: jaxlm pmi --files=... "
      f"--out={path.name}"
    )
  text = path.read_text(encoding="utf-8", errors="replace")
  head, found, rest = text.partition(_HASH)
  claimed, _, body = rest.partition("\n")
  if not (head.startswith(_TITLE) and found):
    raise errors.UserError(
      f"{where} is '{path}', which `jaxlm pmi` did not write: its first line "
      f"is not '{_TITLE}'."
    )
  if claimed != _digest(body):
    raise errors.UserError(
      f"'{path}' is damaged: its lines do not match its sha256. Make it anew "
      "with `jaxlm pmi`."
    )
  rows = (line.split("\t") for line in body.splitlines())
  return [Run(text, int(count), float(pmi)) for text, count, pmi in rows]


def score(run: tuple, share: Callable[[tuple], float]) -> float:
  """log p(run), less what the best way to cut it explains.

  Args:
    run: at least two words.
    share: of a run of words among all of its length.
  """
  n = len(run)
  whole = {
    (i, j): math.log(share(run[i:j]))
    for i in range(n)
    for j in range(i + 1, n + 1)
  }
  best = {n: 0.0}  # of the words from i on, cut in any way
  for i in range(n - 1, 0, -1):
    best[i] = max(whole[i, j] + best[j] for j in range(i + 1, n + 1))
  return whole[0, n] - max(whole[0, j] + best[j] for j in range(1, n))


def _ranked(counts, n: int, min_count: int):
  """(numbers, count, score) of the runs of a length, the best first."""
  share = lambda run: counts.count(run) / counts.totals[len(run) - 1]
  found = []
  for key, count in counts.runs[n - 2].items():
    if count >= min_count:
      run = tuple(np.frombuffer(key, np.int32).tolist())
      found.append((run, count, score(run, share)))
  return sorted(found, key=lambda r: (-r[2], -r[1], r[0]))


def _part(n: int, size: int) -> int:
  return math.ceil(SHARES[n] * size)


def _needed(counts, ranked) -> np.ndarray:
  """Of each word of the sample, the smallest size at which a run covers it."""
  ids = counts.sample
  needed = np.full(len(ids), np.inf)
  for n, found in ranked.items():
    sizes = {run: (i + 1) / SHARES[n] for i, (run, _, _) in enumerate(found)}
    rows = np.lib.stride_tricks.sliding_window_view(ids, n)
    at = [sizes.get(tuple(row), np.inf) for row in rows.tolist()]
    for offset in range(n):
      part = needed[offset : len(at) + offset]
      np.minimum(part, at, out=part)
  return needed[ids >= 0]


def _size(needed, coverage: float) -> int:
  """The smallest size that covers this share; all runs where none does."""
  within = np.sort(needed[np.isfinite(needed)])
  wanted = math.ceil(coverage * len(needed))
  return math.ceil(within[min(wanted, len(within)) - 1])


def _digest(body: str) -> str:
  return hashlib.sha256(body.encode()).hexdigest()


def _check(size, coverage, min_count) -> None:
  if size < 0 or not 0 < coverage <= 1 or min_count < 2:
    raise errors.UserError(
      f"jaxlm pmi: --size is {size}, --coverage {coverage} and --min_count "
      f"{min_count}; a size is at least 0, a coverage a share above 0, a "
      "count at least 2."
    )
