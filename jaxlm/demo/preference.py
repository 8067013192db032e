"""Does the model know word order? Real sentences beside swapped ones.

A pair is a sentence of a held-out file and the same sentence with two
neighbouring words swapped. The model prefers the one with the higher
pseudo-log-likelihood (Salazar et al., "Masked Language Model Scoring", 2020,
arXiv:1910.14659): the sum over tokens of log p(token | all the others). A
model that knows nothing of order prefers half of the pairs.

Only lower-case words without punctuation are swapped, never the first or the
last word, so capitals and full stops cannot give the swap away; both
sentences hold the same words, so word frequencies cannot either.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

FEWEST_WORDS, MOST_WORDS = 6, 25

_END = re.compile(r"(?<=[a-z)]\.)\s+(?=[A-Z])")
_WORD = re.compile(r"[A-Za-z]+(?:['-][a-z]+)*[,;:]?")
_PLAIN = re.compile(r"[a-z]+")


class Pair(NamedTuple):
  """A sentence as written, and with two neighbouring words swapped."""

  real: str
  swapped: str


class Preference(NamedTuple):
  """How often the real sentence of a pair scored higher.

  `share` of `count` pairs, ties counted as half; `error` is its binomial
  standard error.
  """

  share: float
  error: float
  count: int


def measure(real: Sequence[float], swapped: Sequence[float]) -> Preference:
  """Share of the pairs whose real sentence scored higher.

  Args:
    real: scores [pairs] of the sentences as written.
    swapped: scores [pairs] of the others.

  Raises:
    ValueError: no pairs, lists of different lengths, or a score that is not
      finite.
  """
  real, swapped = np.asarray(real, float), np.asarray(swapped, float)
  if real.shape != swapped.shape or not real.size:
    raise ValueError(
      f"scores of {real.shape} and {swapped.shape}: expected one of each for "
      "every pair, and a pair or more"
    )
  if not np.all(np.isfinite(real) & np.isfinite(swapped)):
    raise ValueError("the scores of the pairs are not all finite")
  share = float(np.where(real == swapped, 0.5, real > swapped).mean())
  error = math.sqrt(share * (1 - share) / real.size)
  return Preference(share, error, int(real.size))


def pairs(held_out: Iterable[str], training: Iterable[str] = ()) -> list[Pair]:
  """One pair for every usable sentence of the held-out texts, in order.

  Args:
    held_out: texts that the model has not seen.
    training: texts that it has: sentences that occur in them, whatever their
      case and line breaks, are left out, and so are pairs whose swapped words
      stand there as well.
  """
  known = " ".join(_flat(text) for text in training)
  made, seen = [], set()
  for text in held_out:
    for sentence in sentences(text):
      key = _flat(sentence)
      if key in seen or key in known:
        continue
      seen.add(key)
      swapped = swap(sentence)
      if swapped and _flat(swapped) not in known:
        made.append(Pair(sentence, swapped))
  return made


def sentences(text: str) -> Iterator[str]:
  """The prose sentences of a text, on one line each.

  A capital first, a full stop last, 6 to 25 words of letters alone: code,
  lists, headings and signatures fall out.
  """
  for paragraph in re.split(r"\n\s*\n", text):
    for sentence in _END.split(" ".join(paragraph.split())):
      if _is_prose(sentence):
        yield sentence


def swap(sentence: str) -> str | None:
  """The sentence with two neighbouring words swapped, or None.

  Which two is drawn evenly from the places that qualify, by a hash of the
  sentence: the same on every machine.
  """
  words = sentence.split(" ")
  places = [
    i
    for i in range(1, len(words) - 2)
    if words[i] != words[i + 1]
    and _PLAIN.fullmatch(words[i])
    and _PLAIN.fullmatch(words[i + 1])
  ]
  if not places:
    return None
  digest = hashlib.sha256(sentence.encode()).digest()
  i = places[int.from_bytes(digest[:8], "big") % len(places)]
  words[i], words[i + 1] = words[i + 1], words[i]
  return " ".join(words)


def _is_prose(sentence: str) -> bool:
  words = sentence.split(" ")
  return (
    FEWEST_WORDS <= len(words) <= MOST_WORDS
    and sentence[0].isupper()
    and sentence.endswith(".")
    and all(_WORD.fullmatch(w) for w in [*words[:-1], words[-1][:-1]])
    # Names and code words in upper case make no English sentence.
    and 4 * sum(_PLAIN.match(w) is not None for w in words) >= 3 * len(words)
  )


def _flat(text: str) -> str:
  return " ".join(text.lower().split())
