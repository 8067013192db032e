"""Speech with a share of variation sets, in a fixed number of words."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlm import errors
from jaxlm.data.variation import Place, VariationSet, count_words

APART = 10  # utterances of a transcript that are no neighbours any more


class Mixed(NamedTuple):
  """What training reads.

  Attributes:
    units: runs of utterances that belong together: a set, or one utterance.
    facts: what was asked for and what came out, plain data.
  """

  units: list[list[str]]
  facts: dict[str, Any]

  def utterances(self, rng=None) -> list[str]:
    """All utterances; in random order where `rng` is given (the control)."""
    found = [line for unit in self.units for line in unit]
    if rng is None:
      return found
    return [found[i] for i in rng.permutation(len(found))]


def mix(
  transcripts: Sequence[Sequence[str]],
  sets: Iterable[VariationSet],
  *,
  share: float,
  words: int,
  run: int = 0,
  rng: np.random.Generator,
) -> Mixed:
  """Whole sets up to a share of the words, single utterances for the rest.

  The utterances between are shuffled, and neighbours moved apart, so that
  natural sets are broken.

  Args:
    transcripts: of training, as lists of utterances.
    sets: in the order in which they are taken.
    share: of the words, 0 to 1.
    words: in all; 0 for as many as the transcripts have.
    run: utterances of every unit, for `lanes`: longer sets are cut, shorter
      ones filled up, and single utterances put together; 0: as they come.
    rng: of all that is random.

  Raises:
    UserError: too few words in the sets, or in the transcripts.
  """
  available = sum(count_words(u) for lines in transcripts for u in lines)
  words = words or available
  chosen = _take(sets, share, words, run)
  used = {place for each in chosen for place in each.places}
  in_sets = sum(each.words for each in chosen)
  rest = apart(_shuffled(transcripts, used, rng), rng)
  rest = _upto(transcripts, rest, words - in_sets, available)
  units, rest = _units(chosen, rest, transcripts, run)
  units = _among(units, rest, rng)
  return Mixed(units, _facts(units, chosen, share, words))


def apart(places: list[Place], rng) -> list[Place]:
  """Swaps places until no neighbours are close in one transcript.

  Where a transcript is all there is, some stay.
  """
  places = list(places)
  for i in range(1, len(places)):
    for _ in range(20):
      if not _close(places[i - 1], places[i]):
        break
      if i + 1 == len(places):
        break
      j = int(rng.integers(i + 1, len(places)))
      places[i], places[j] = places[j], places[i]
  return places


def _close(a: Place, b: Place) -> bool:
  return a[0] == b[0] and abs(a[1] - b[1]) < APART


def _take(sets, share, words, run) -> list[VariationSet]:
  wanted, found, total = share * words, [], 0
  for each in sets:
    if total >= wanted:
      return found
    if run:
      each = each._replace(utterances=each.utterances[:run])
    found.append(each)
    total += each.words
  if total < wanted:
    raise errors.UserError(
      f"The variation sets have {total:,} words; data.share={share} of "
      f"{words:,} words takes {wanted:,.0f}. Lower data.share to "
      f"{total / words:.3f} or data.words to {int(total / share):,}, or give "
      "more sets."
    )
  return found


def _shuffled(transcripts, used, rng) -> list[Place]:
  places = [
    (t, i)
    for t, lines in enumerate(transcripts)
    for i in range(len(lines))
    if (t, i) not in used
  ]
  return [places[i] for i in rng.permutation(len(places))]


def _upto(transcripts, places, wanted, available) -> list[Place]:
  """The first places that hold as many words."""
  sizes = [count_words(transcripts[t][i]) for t, i in places]
  total = sum(sizes)
  if total < wanted:
    raise errors.UserError(
      f"data.words asks for {wanted:,.0f} words beside the variation sets; the "
      f"utterances of data.files that no set uses have {total:,} of "
      f"{available:,}. Lower data.words."
    )
  reached = np.concatenate([[0], np.cumsum(sizes)])
  return places[: int(np.searchsorted(reached, wanted))]


def _units(chosen, rest, transcripts, run):
  """(units of sets, units of single utterances)."""
  text = [transcripts[t][i] for t, i in rest]
  if not run:
    return [list(s.utterances) for s in chosen], [[line] for line in text]
  units = []
  for each in chosen:
    missing = run - len(each.utterances)
    text, filling = text[: len(text) - missing], text[len(text) - missing :]
    if len(filling) < missing:
      raise errors.UserError(
        f"data.order.steps is {run} and a variation set has "
        f"{len(each.utterances)} utterances: no single utterances are left to "
        "fill it up. Lower data.order.steps or data.share."
      )
    units.append([*each.utterances, *filling])
  singles = [text[i : i + run] for i in range(0, len(text) - run + 1, run)]
  return units, singles


def _among(units, rest, rng) -> list[list[str]]:
  """Puts units anywhere between the others, which keep their order."""
  others, ours = iter(rest), iter(units)
  own = rng.permutation(len(units) + len(rest)) < len(units)
  return [next(ours if mine else others) for mine in own]


def _facts(units, chosen, share, words) -> dict[str, Any]:
  total = sum(count_words(line) for unit in units for line in unit)
  lines = sum(map(len, units))
  return {
    "share_wanted": share,
    "words_wanted": words,
    "words": total,
    "utterances": lines,
    "sets": len(chosen),
    "share_of_words": sum(s.words for s in chosen) / max(total, 1),
    "share_of_utterances": sum(len(s.utterances) for s in chosen)
    / max(lines, 1),
  }
