"""Anchors and positives of a document (DeCLUTR: arXiv:2006.03659).

The law of Giorgi et al. and their released code. numpy does not promise these
draws to its later versions.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Span = tuple[int, int]  # first token, and the one behind the last


class Document(NamedTuple):
  """What bounds the spans of a document.

  Attributes:
    tokens: its length.
    shortest, longest: tokens of a span.
  """

  tokens: int
  shortest: int
  longest: int


def needed(anchors: int, longest: int) -> int:
  """Tokens of a document that has room for so many anchors wherever they lie.

  Twice what they take, for no two of them come closer than a longest span.
  """
  return 2 * anchors * longest


def anchors(document: Document, count: int, random) -> list[Span]:
  """Anchors, rather long, a longest span or more apart.

  A document is cells of the longest span. Each anchor lies in a cell of its
  own, which is taken away with its neighbours; where there are few, from
  either end, so that they last.

  Args:
    document: of at least `needed` tokens.
    count: how many.
    random: numpy's generator.
  """
  longest, found = document.longest, []
  cells = list(range(document.tokens // longest))
  for left in range(count, 0, -1):
    size = _size(random, 4, 2, document.shortest, longest)
    at = int(random.integers(len(cells)))
    if len(cells) // left < left:
      at = int(random.integers(2)) * (len(cells) - 1)
    start = cells[at] * longest + int(random.integers(longest - size + 1))
    del cells[max(at - 1, 0) : at + 2]
    found.append((start, start + size))
  return found


def anywhere(document: Document, anchor: Span, random) -> Span:
  """A rather short span that touches the anchor, overlaps it or is inside."""
  size = _size(random, 2, 4, document.shortest, document.longest)
  first = max(anchor[0] - size, 0)
  last = min(anchor[1], document.tokens - size)
  return _placed(random, first, last, size)


def inside(document: Document, anchor: Span, random) -> Span:
  """A rather short part of the anchor."""
  size = _size(random, 2, 4, document.shortest, anchor[1] - anchor[0])
  return _placed(random, anchor[0], anchor[1] - size, size)


def beside(document: Document, anchor: Span, random) -> Span:
  """A rather short span that ends where the anchor starts, or the reverse.

  A document has room for one or the other. The release never takes one that
  starts the document; here it may.
  """
  size = _size(random, 2, 4, document.shortest, document.longest)
  starts = [anchor[0] - size, anchor[1]]
  there = [s for s in starts if 0 <= s <= document.tokens - size]
  start = there[int(random.integers(len(there)))]
  return start, start + size


POSITIVES: dict[str, Callable[..., Span]] = {
  "anywhere": anywhere,
  "inside": inside,
  "beside": beside,
}


def _size(random: np.random.Generator, a, b, shortest, longest) -> int:
  """Beta(a, b) from the shortest to the longest, rounded down."""
  return int(random.beta(a, b) * (longest - shortest) + shortest)


def _placed(random, first: int, last: int, size: int) -> Span:
  """A span of a size that starts from `first` to `last`, evenly."""
  start = int(random.integers(first, last + 1))
  return start, start + size
