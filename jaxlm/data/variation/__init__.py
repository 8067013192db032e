"""Variation sets: where they come from, and how they are mixed into speech.

A variation set is a run of utterances of one intent in changing words ("you
want the ball ?", "do you want this ball ?", "the ball ."), frequent in speech
to children (Kuntay and Slobin 1996). A source of them is a frozen dataclass
with

  sets(transcripts, rng) -> iterator of VariationSet

of transcripts (lists of utterances), drawn by a numpy generator.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxlm.registry import Registry

variations = Registry("variation", __name__)

Place = tuple[int, int]  # transcript, utterance


class VariationSet(NamedTuple):
  """Utterances that belong together.

  Attributes:
    utterances: at least two, in their order.
    places: those of the transcripts that it stands for, which are then not
      used again.
  """

  utterances: Sequence[str]
  places: tuple[Place, ...] = ()

  @property
  def words(self) -> int:
    """Words, split at white space."""
    return sum(map(count_words, self.utterances))


def count_words(utterance: str) -> int:
  """Words of an utterance, split at white space."""
  return len(utterance.split())
