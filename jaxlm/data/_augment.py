"""Other wordings of a sentence, as tokens (CLEAR: Wu et al., arXiv:2012.15466).

Each takes a sentence as a list of words, which are lists of ids, a generator
of random numbers and its settings, and gives such a list, never an empty one.
Shares and counts are our choice: our notes have none of the paper's that was
verified. Its fourth, synonyms, needs a lexicon and is left out. numpy does not
promise these draws to its later versions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm import errors

Words = list[list[int]]


def delete_words(words: Words, random, rate: float = 0.2) -> Words:
  """Without a share of the words, rounded, drawn evenly."""
  count = min(round(rate * len(words)), len(words) - 1)
  gone = set(random.choice(len(words), count, replace=False).tolist())
  return [word for i, word in enumerate(words) if i not in gone]


def delete_spans(
  words: Words, random, spans: int = 2, share: float = 0.05
) -> Words:
  """Without spans of words, one after the other, each of a share of them."""
  size = max(round(share * len(words)), 1)
  for _ in range(spans):
    if len(words) > size:
      start = random.integers(len(words) - size + 1)
      words = words[:start] + words[start + size :]
  return words


def reorder(words: Words, random, pairs: int = 2, share: float = 0.05) -> Words:
  """With pairs of spans in each other's place, each of a share of the words."""
  size = max(round(share * len(words)), 1)
  for _ in range(pairs):
    if len(words) < 2 * size:
      break
    # Two starts that leave room for both: of all such pairs, evenly.
    room = len(words) - 2 * size
    low, high = np.sort(random.choice(room + 2, 2, replace=False))
    first, second = int(low), int(high) + size - 1
    middle = words[first + size : second]
    behind = words[second + size :]
    a, b = words[first : first + size], words[second : second + size]
    words = words[:first] + b + middle + a + behind
  return words


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
    defaults = KINDS[name].__defaults__
    known = KINDS[name].__code__.co_varnames[2 : 2 + len(defaults)]
    for key, value in settings.items():
      if key not in known:
        raise errors.unknown(f"data.augment.{name} takes no", key, known)
      if key in ("rate", "share") and not 0 <= value < 1:
        raise errors.UserError(
          f"data.augment.{name}.{key} is {value}; a share lies from 0 to 1."
        )


def augmented(
  ids: Sequence[int], starts: np.ndarray, random, spec
) -> list[int]:
  """A sentence's ids, in another wording.

  Args:
    ids: without brackets.
    starts: bool [vocab], ids that begin a word.
    random: numpy's generator.
    spec: name -> settings, applied in the order of KINDS.
  """
  ids = np.asarray(ids, np.int64)
  begins = np.flatnonzero(starts[ids[1:]]) + 1 if len(ids) else ids
  cuts, listed = [0, *begins.tolist(), len(ids)], ids.tolist()
  words: Words = [listed[a:b] for a, b in zip(cuts, cuts[1:]) if a < b]
  for name, change in KINDS.items():
    if words and name in spec:
      words = change(words, random, **spec[name])
  return [index for word in words for index in word]
