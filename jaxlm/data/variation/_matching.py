"""When two utterances are variants of each other.

After the released code of the ACQDIV study of variation sets
(github.com/acqdiv/variation-sets): `strict` counts the words that both have,
`fuzzy_words` the pairs of words that are alike. `fuzzy` compares utterances
whole, as that study's manual says (the code's branch for it is commented
out). Alike is a ratio of `difflib.SequenceMatcher` of at least 0.55, the
manual's choice from gold sets.
"""

import dataclasses
import difflib
import unicodedata
from collections.abc import Callable, Sequence

from jaxlm import errors

THRESHOLD = 0.55


def words(utterance: str) -> list[str]:
  """The words that count: lower case, at least a letter or a digit in each."""
  return [
    word
    for word in utterance.lower().split()
    if any(unicodedata.category(c)[0] in "LN" for c in word)
  ]


def shared(a: Sequence[str], b: Sequence[str]) -> int:
  """How many different words both have."""
  return len(set(a) & set(b))


def alike(a: str, b: str, threshold: float) -> bool:
  """Whether the ratio of the longest common blocks reaches the threshold."""
  matcher = difflib.SequenceMatcher(lambda c: c == " ", a, b)
  return (
    matcher.real_quick_ratio() >= threshold  # both are upper bounds
    and matcher.quick_ratio() >= threshold
    and matcher.ratio() >= threshold
  )


def _strict(a, b, least, threshold):
  del threshold
  return shared(a, b) >= least


def _fuzzy(a, b, least, threshold):
  del least
  return bool(a and b) and alike(" ".join(a), " ".join(b), threshold)


def _fuzzy_words(a, b, least, threshold):
  found = sum(alike(x, y, threshold) for x in a for y in b)
  return found >= least


MATCHES: dict[str, Callable] = {
  "strict": _strict,
  "fuzzy": _fuzzy,
  "fuzzy_words": _fuzzy_words,
}


@dataclasses.dataclass(frozen=True)
class Match:
  """A relation between utterances, given as their words.

  Attributes:
    kind: "strict", "fuzzy" or "fuzzy_words".
    least: words in common, or pairs of words alike.
    threshold: from what ratio on strings are alike.
  """

  kind: str = "fuzzy"
  least: int = 1
  threshold: float = THRESHOLD

  def __post_init__(self):
    if self.kind not in MATCHES:
      raise errors.unknown("There is no match", self.kind, MATCHES)
    if self.least < 1:
      raise errors.UserError(f"least is {self.least}; it is at least 1.")
    if not 0 < self.threshold <= 1:
      raise errors.UserError(
        f"threshold is {self.threshold}; it is above 0 and at most 1."
      )

  def __call__(self, a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether utterances of these words are variants."""
    return MATCHES[self.kind](a, b, self.least, self.threshold)
