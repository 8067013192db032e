"""Other wordings of texts, as tokens (CLEAR: Wu et al., arXiv:2012.15466).

Each takes the words of many texts, what draws for them (count -> uint32 [texts,
count]) and its settings, and gives such words; no text loses its last one.
Shares and counts are our choice: our notes have none of the paper's that was
verified. Its fourth, synonyms, needs a lexicon and is left out.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxlm import errors
from jaxlm.data import _counter


class Words(NamedTuple):
  """The words of texts.

  Attributes:
    order: int64 [texts, most words], their numbers in the text as it was.
    count: int64 [texts], how many of a row are there.
  """

  order: np.ndarray
  count: np.ndarray

  @property
  def there(self) -> np.ndarray:
    """bool [texts, most words]."""
    return np.arange(self.order.shape[1]) < self.count[:, None]

  def moved(self, source: np.ndarray, count: np.ndarray) -> "Words":
    """The words from the places `source` [texts, most words]."""
    source = np.clip(source, 0, max(self.order.shape[1] - 1, 0))
    return Words(np.take_along_axis(self.order, source, axis=1), count)


def delete_words(words: Words, random, *, rate: float = 0.2) -> Words:
  """Without a share of the words, rounded, drawn evenly."""
  gone = np.rint(rate * words.count).astype(np.int64)
  gone = np.clip(gone, 0, np.maximum(words.count - 1, 0))
  drawn = random(words.order.shape[1]).astype(np.int64)
  drawn[~words.there] = 2**32  # behind all others
  rank = np.argsort(np.argsort(drawn, axis=1, kind="stable"), axis=1)
  kept = words.there & (rank >= gone[:, None])
  source = np.argsort(~kept, axis=1, kind="stable")
  return words.moved(source, words.count - gone)


def delete_spans(
  words: Words, random, *, spans: int = 2, share: float = 0.05
) -> Words:
  """Without spans of words, one after the other, each of a share of them."""
  size, drawn = _size(words, share), random(spans)
  place = np.arange(words.order.shape[1])
  for turn in range(spans):
    room = np.maximum(words.count - size, 0)
    start = _counter.below(drawn[:, turn], room + 1)
    gone = np.where(room, size, 0)
    behind = place >= start[:, None]
    source = place + gone[:, None] * behind
    words = words.moved(source, words.count - gone)
  return words


def reorder(
  words: Words, random, *, pairs: int = 2, share: float = 0.05
) -> Words:
  """With pairs of spans in each other's place, each of a share of the words."""
  size, drawn = _size(words, share), random(2 * pairs)
  able = words.count >= 2 * size
  # Two starts that leave room for both: of all such pairs, evenly.
  starts = np.where(able, words.count - 2 * size, 0) + 2
  for turn in range(pairs):
    one, other = drawn[:, 2 * turn], drawn[:, 2 * turn + 1]
    one = _counter.below(one, starts)
    other = _counter.below(other, starts - 1)
    other += other >= one
    first = np.minimum(one, other)
    second = np.maximum(one, other) + size - 1
    words = words.moved(
      _swapped(words, first, second, size * able), words.count
    )
  return words


def _size(words: Words, share: float) -> np.ndarray:
  """int64 [texts], words of a span."""
  return np.maximum(np.rint(share * words.count).astype(np.int64), 1)


def _swapped(words: Words, first, second, size) -> np.ndarray:
  """Places [texts, most words] with the spans from two starts exchanged."""
  place = np.arange(words.order.shape[1])
  first, second, size = (x[:, None] for x in (first, second, size))
  in_first = (place >= first) & (place < first + size)
  in_second = (place >= second) & (place < second + size)
  apart = second - first
  return place + apart * in_first - apart * in_second


_SHARES = ("rate", "share")  # the other settings are counts
KINDS: dict[str, Callable[..., Words]] = {
  "delete_words": delete_words,
  "delete_spans": delete_spans,
  "reorder": reorder,
}


def check(spec: Mapping[str, Mapping[str, Any]]) -> None:
  """Raises UserError for an unknown augmentation or setting, or a bad one."""
  for name, settings in spec.items():
    if name not in KINDS:
      raise errors.unknown("data.augment has no kind", name, KINDS)
    known = inspect.getfullargspec(KINDS[name]).kwonlyargs
    for key, value in settings.items():
      if key not in known:
        raise errors.unknown(f"data.augment.{name} takes no", key, known)
      _check_value(f"data.augment.{name}.{key}", value, key in _SHARES)


def _check_value(where: str, value, share: bool) -> None:
  kinds = (int, float) if share else (int,)
  number = type(value) in kinds  # True is no number here
  if share and not (number and 0 <= value < 1):
    raise errors.UserError(f"{where} is {value!r}; a share lies from 0 to 1.")
  if not share and not (number and value >= 1):
    raise errors.UserError(
      f"{where} is {value!r}; it is a whole number of at least 1."
    )


def reworded(
  ids: np.ndarray,
  spans: np.ndarray,
  brackets: tuple[int, int],
  starts: np.ndarray,
  random: Callable[[int, int], np.ndarray],
  spec: Mapping[str, Mapping[str, Any]],
) -> tuple[np.ndarray, np.ndarray]:
  """Texts in other wordings, all at once.

  Args:
    ids: [tokens], where all texts lie.
    spans: int64 [texts, 2], where each begins and ends, with its brackets.
    brackets: how many tokens these are in front and behind; they stay.
    starts: bool [vocab], ids that begin a word.
    random: (stream, count) -> uint32 [texts, count].
    spec: name -> settings, applied in the order of KINDS.

  Returns:
    ids [tokens], one text behind the other, and int64 [texts], their sizes.
  """
  front, back = spans[:, 0] + brackets[0], spans[:, 1] - brackets[1]
  begins, sizes, words = _words(ids, front, back, starts)
  offsets = np.cumsum(words.count) - words.count
  for stream, (name, change) in enumerate(KINDS.items()):
    if name in spec:
      words = change(words, functools.partial(random, stream), **spec[name])
  # A text's pieces: what is in front, its words, what is behind.
  pieces = np.column_stack([spans[:, :1], words.order, back])
  lengths = np.zeros_like(pieces)
  lengths[:, 0], lengths[:, -1] = brackets
  chosen = (offsets[:, None] + words.order)[words.there]
  pieces[:, 1:-1][words.there] = begins[chosen]
  lengths[:, 1:-1][words.there] = sizes[chosen]
  return ids[_places(pieces.ravel(), lengths.ravel())], lengths.sum(axis=1)


def _words(ids, front, back, starts):
  """Where the words of all texts begin, their sizes, and each text's own."""
  places = _places(front, back - front)
  text = np.repeat(np.arange(len(front)), back - front)
  new = starts[ids[places]] | (places == front[text])
  (heads,) = np.nonzero(new)
  sizes = np.diff(heads, append=len(places))
  count = np.bincount(text[heads], minlength=len(front)).astype(np.int64)
  most = np.arange(count.max(initial=0))
  return places[heads], sizes, Words(np.tile(most, (len(front), 1)), count)


def _places(begins, sizes) -> np.ndarray:
  """begins[0], begins[0] + 1, .., begins[1], ..: `sizes` places from each."""
  shift = begins - (np.cumsum(sizes) - sizes)
  return np.repeat(shift, sizes) + np.arange(sizes.sum())
