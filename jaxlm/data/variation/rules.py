"""Variation sets made by rules from single utterances of English.

The changes are those by which Kuntay and Slobin (1996) describe variation
sets: words exchanged, added or left out, and orders changed, among them
questions for requests. No parser and no model: grammatical mostly, not
always. For sets by a language model, take `file`.
"""

import dataclasses
from collections.abc import Iterator

from jaxlm import errors
from jaxlm.data.variation import VariationSet, _english, variations
from jaxlm.data.variation._matching import shared, words


@variations.register("rules", paper="Kuntay and Slobin 1996")
@dataclasses.dataclass(frozen=True)
class Rules:
  """Each set begins with an utterance of the transcripts, and varies it.

  Attributes:
    size: utterances of a set.
    least_words: words of an utterance to start from, at least.
    most_words: at most.
  """

  size: int = 4
  least_words: int = 3
  most_words: int = 12

  def __post_init__(self):
    if self.size < 2:
      raise errors.UserError(
        f"data.sets.size is {self.size}; two utterances at least make a set."
      )
    if not 1 <= self.least_words <= self.most_words:
      raise errors.UserError(
        f"data.sets.least_words is {self.least_words} and most_words "
        f"{self.most_words}: expected 1 <= least_words <= most_words."
      )

  def sets(self, transcripts, rng) -> Iterator[VariationSet]:
    """Sets made of the utterances in random order, each used once."""
    places = [
      (t, i)
      for t, lines in enumerate(transcripts)
      for i, line in enumerate(lines)
      if self.least_words <= len(line.split()) <= self.most_words
    ]
    for index in rng.permutation(len(places)):
      transcript, line = places[index]
      made = self.vary(transcripts[transcript][line], rng)
      if made:
        yield VariationSet(made, ((transcript, line),))

  def vary(self, utterance: str, rng) -> list[str]:
    """A set that begins with the utterance; [] where the rules give none."""
    made = [" ".join(utterance.split())]
    while len(made) < self.size:
      for index in rng.permutation(len(_english.RULES)):
        new = _english.apply(_english.RULES[index], made[-1], rng)
        if new and new not in made and _varies(made[-1], new):
          made.append(new)
          break
      else:
        return []
    return made


def _varies(old: str, new: str) -> bool:
  """Whether the words differ and some stayed."""
  return words(old) != words(new) and shared(words(old), words(new)) > 0
