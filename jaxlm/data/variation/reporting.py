"""How much of transcripts stands in variation sets."""

import collections
from collections.abc import Sequence
from typing import Any

from jaxlm.data.variation import VariationSet, count_words


def report(
  transcripts: Sequence[Sequence[str]], sets: Sequence[VariationSet]
) -> dict[str, Any]:
  """Counts and shares of sets, against the transcripts that they came from.

  Returns:
    `transcripts`, `utterances` and `words` of the transcripts; `sets`,
    `utterances_in_sets`, `words_in_sets` and, of what the sets hold as a
    share of the transcripts, `share_of_utterances` and `share_of_words`;
    `mean_size` and `sizes` (utterances -> sets).
  """
  lines = [line for transcript in transcripts for line in transcript]
  sizes = collections.Counter(len(s.utterances) for s in sets)
  words = sum(map(count_words, lines))
  held = sum(s.words for s in sets)
  members = sum(size * n for size, n in sizes.items())
  return {
    "transcripts": len(transcripts),
    "utterances": len(lines),
    "words": words,
    "sets": len(sets),
    "utterances_in_sets": members,
    "words_in_sets": held,
    "share_of_utterances": members / max(len(lines), 1),
    "share_of_words": held / max(words, 1),
    "mean_size": members / max(len(sets), 1),
    "sizes": {str(size): n for size, n in sorted(sizes.items())},
  }
