"""A uniform sample of lines from a stream, in bounded memory."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from jaxlm import errors

_LINE = 8192  # characters; longer lines are cut at a space
_BLOCK = 65536


def sample(
  documents: Iterable[str], seed: int, most_lines: int, most_characters: int
) -> tuple[list[str], dict[str, int]]:
  """Lines of the documents in their order, each kept with equal chance.

  Every line gets a random priority from (seed, its index) and those of the
  lowest priorities that fit are kept, so the stream may be of any length.

  Returns:
    (lines, counts): counts of lines and characters, seen and kept.

  Raises:
    UserError: the stream holds no line.
  """
  kept: list[tuple[float, int, str]] = []  # a heap, highest priority on top
  seen = seen_characters = characters = 0
  for line, priority in zip(_lines(documents), _priorities(seed)):
    seen += 1
    seen_characters += len(line)
    characters += len(line)
    heapq.heappush(kept, (-priority, seen, line))
    while len(kept) > most_lines or (
      characters > most_characters and len(kept) > 1
    ):
      characters -= len(heapq.heappop(kept)[2])
  if not kept:
    raise errors.UserError(
      "There is no text to train a vocabulary on: data.files gave no line "
      "that is not held out. Text without blank lines is one document; see "
      "data.documents and data.validation_share."
    )
  lines = [line for _, _, line in sorted(kept, key=lambda entry: entry[1])]
  counts = {
    "lines_seen": seen,
    "characters_seen": seen_characters,
    "lines": len(lines),
    "characters": characters,
  }
  return lines, counts


def characters(lines: Iterable[str], most: int) -> list[str]:
  """The most frequent characters, at most `most`, white space left out.

  Sorted by falling count, then code point: the trainers break ties by the
  order of a hash map, which differs between processes.
  """
  counts: Counter[str] = Counter()
  for line in lines:
    counts.update(line)
  ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
  return [c for c, _ in ranked if not c.isspace()][:most]


def _lines(documents) -> Iterator[str]:
  for document in documents:
    for line in document.split("\n"):
      while len(line) > _LINE:
        cut = line.rfind(" ", 1, _LINE)
        cut = cut if cut > 0 else _LINE
        yield line[:cut]
        line = line[cut:]
      if line.strip():
        yield line


def _priorities(seed: int) -> Iterator[int]:
  stream = np.random.Philox(key=np.array([seed % 2**64, 1], np.uint64))
  while True:
    yield from stream.random_raw(_BLOCK).tolist()
