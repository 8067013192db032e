"""The variation sets that are there: found in the transcripts.

An utterance joins a set when it matches the utterance before it in the set
("incremental") or the first one ("anchor"), no further away than the window
(Kuntay and Slobin 1996; the two ways are those of the ACQDIV study). An exact
repetition varies nothing: it neither joins nor ends a set.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from jaxlm import errors
from jaxlm.data.variation import VariationSet, variations
from jaxlm.data.variation._matching import THRESHOLD, Match, words

METHODS = ("incremental", "anchor")


@variations.register("natural", paper="Kuntay and Slobin 1996")
@dataclasses.dataclass(frozen=True)
class Natural:
  """Runs of variants in transcripts.

  Attributes:
    match: "strict" (words in common), "fuzzy" (utterances alike) or
      "fuzzy_words" (words alike).
    method: "incremental" or "anchor": what a new member must match.
    window: utterances that are looked at, from that one on.
    least: words in common, or pairs of words alike.
    threshold: from what ratio on strings are alike.
  """

  match: str = "fuzzy"
  method: str = "incremental"
  window: int = 3
  least: int = 1
  threshold: float = THRESHOLD

  def __post_init__(self):
    Match(self.match, self.least, self.threshold)
    if self.method not in METHODS:
      raise errors.unknown("There is no method", self.method, METHODS)
    if self.window < 2:
      raise errors.UserError(
        f"window is {self.window}; two utterances at least make a set."
      )

  def sets(self, transcripts, rng) -> Iterator[VariationSet]:
    """All sets, in random order."""
    found = [
      VariationSet([lines[i] for i in members], tuple((t, i) for i in members))
      for t, lines in enumerate(transcripts)
      for members in self.find(lines)
    ]
    return iter([found[i] for i in rng.permutation(len(found))])

  def find(self, utterances: Sequence[str]) -> list[list[int]]:
    """Indices of each set of one transcript; each utterance in one at most."""
    split = [words(line) for line in utterances]
    taken, found = set(), []
    for first in range(len(split)):
      if first in taken or not split[first]:
        continue
      members = self._members(split, first, taken)
      if len(members) > 1:
        taken.update(members)
        found.append(members)
    return found

  def _members(self, split, first, taken) -> list[int]:
    match = Match(self.match, self.least, self.threshold)
    members, said = [first], {tuple(split[first])}
    index = first + 1
    while index < len(split):
      nearest = first if self.method == "anchor" else members[-1]
      if index - nearest >= self.window:
        break
      new = index not in taken and tuple(split[index]) not in said
      if new and match(split[nearest], split[index]):
        members.append(index)
        said.add(tuple(split[index]))
      index += 1
    return members


def windows(
  utterances: Sequence[Sequence[str]], size: int, match: Match, method: str
) -> int:
  """Matches in all windows of `size` utterances, as the ACQDIV code counts.

  With "anchor" a window counts once, if its first utterance matches any
  other; with "incremental" each pair of neighbours of each window counts.

  Args:
    utterances: as words.
    size: utterances of a window.
    match: between two of them.
    method: "anchor" or "incremental".
  """
  total = 0
  for start in range(len(utterances) - size + 1):
    seen = utterances[start : start + size]
    if method == "anchor":
      total += any(match(seen[0], other) for other in seen[1:])
    else:
      total += sum(match(a, b) for a, b in zip(seen, seen[1:]))
  return total
