"""Variation sets from a file, such as a language model has written.

Haga et al. (arXiv:2411.09587) had theirs written by GPT-4o mini; here they
come as JSON lines: {"set_id": "12", "utterances": ["...", "..."]}.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence

from jaxlm import errors, files
from jaxlm.data import _read, sources
from jaxlm.data.variation import VariationSet, variations
from jaxlm.data.variation._matching import MATCHES, Match, words


@variations.register(
  "file", paper="arXiv:2411.09587", example={"path": "sets.jsonl"}
)
@dataclasses.dataclass(frozen=True)
class File:
  """Sets that somebody else made.

  Attributes:
    path: JSON lines with `utterances`; a path, folder, pattern, or several.
  """

  path: str

  def sets(self, transcripts, rng) -> Iterator[VariationSet]:
    """All sets, in random order; the transcripts are not looked at."""
    del transcripts
    found = read(self.path)
    return (found[i] for i in rng.permutation(len(found)))

  def fingerprint(self) -> list[str]:
    """The sha256 of the files."""
    return [files.sha256(p) for p in _read.find(self.path, "data.sets.path")]


def read(path) -> list[VariationSet]:
  """The sets of JSON-lines files, checked.

  Raises:
    UserError: no such file, or a line that is no variation set; file and line
      are told.
  """
  found = []
  for name in _read.find(path, "data.sets.path"):
    for number, row in sources.json_rows(name):
      found.append(_checked(row, f"'{name}', line {number}"))
  if not found:
    raise errors.UserError(f"data.sets.path: '{path}' holds no variation set.")
  return found


def lines(sets: Iterable[VariationSet]) -> Iterator[str]:
  """JSON lines of sets, which `read` reads."""
  for number, each in enumerate(sets):
    row = {"set_id": str(number), "utterances": list(each.utterances)}
    if each.places:
      row["places"] = [list(place) for place in each.places]
    yield json.dumps(row, ensure_ascii=False)


def fault(utterances: Sequence[str]) -> str:
  """What makes utterances no variation set; "" if they are one.

  Neighbours must differ, and each utterance have a word in common with an
  earlier one, or be like it in one of the ways of `_matching`. Which words
  carry content is not asked, since that depends on the language.
  """
  if len(utterances) < 2:
    return f"has {len(utterances)} utterances, and a set has at least 2"
  split = [words(utterance) for utterance in utterances]
  for index, own in enumerate(split):
    if not own:
      return f"holds an utterance without words: {utterances[index]!r}"
    if index and own == split[index - 1]:
      return f"repeats {utterances[index]!r}, which varies nothing"
    if index and not any(related(own, other) for other in split[:index]):
      return f"has an utterance that is like no earlier: {utterances[index]!r}"
  return ""


def related(a: Sequence[str], b: Sequence[str]) -> bool:
  """Whether any of the ways to match takes these words for variants."""
  return any(Match(kind)(a, b) for kind in MATCHES)


def _checked(row, where) -> VariationSet:
  if "utterances" not in row:
    raise errors.unknown(f"{where} has no field", "utterances", row)
  found = row["utterances"]
  if not isinstance(found, list) or not all(isinstance(u, str) for u in found):
    raise errors.UserError(
      f"{where}: 'utterances' should be a list of strings, found "
      f"{str(found)[:60]}."
    )
  found = [" ".join(utterance.split()) for utterance in found]
  if wrong := fault(found):
    raise errors.UserError(f"{where}: the set {wrong}.")
  return VariationSet(found)
