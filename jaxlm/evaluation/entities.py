"""F1 of named entities, as the CoNLL-2000 script `conlleval` counts them.

An entity is right if its type and both its ends are. Like the script, and
unlike strict IOB2, `I-X` also begins an entity where no entity of that type
is open: both IOB1 and IOB2 files are scored, and IOBES too. Micro average
over all entities.
"""

import re
from collections.abc import Iterable, Sequence

_TAG = re.compile(r"(?:[BIESLU]-.+|O)", re.DOTALL)
_BEGINS, _ENDS = frozenset("BSU"), frozenset("ESLU")

Entity = tuple[str, int, int]


def marks_entities(tags: Iterable[str]) -> bool:
  """Whether all tags are O, B-X, I-X (or IOBES), and some is not O."""
  tags = set(tags)
  return tags != {"O"} and all(_TAG.fullmatch(tag) for tag in tags)


def find(tags: Sequence[str]) -> set[Entity]:
  """The (type, first, last) of all entities of one sentence."""
  found = set()
  start, kind, open_ = 0, "", False
  for place, tag in enumerate([*tags, "O"]):
    prefix, _, name = tag.partition("-")
    continues = (
      open_ and prefix != "O" and prefix not in _BEGINS and name == kind
    )
    if open_ and not continues:
      found.add((kind, start, place - 1))
    if prefix != "O" and not continues:
      start, kind = place, name
    # After a closing tag (E, L, S, U) the next token opens anew.
    open_ = prefix != "O" and prefix not in _ENDS
    if prefix in _ENDS:
      found.add((kind, start, place))
  return found


def scores(
  labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]
) -> dict[str, float]:
  """`entity_precision`, `entity_recall`, `entity_f1` and `entities`.

  Args:
    labels: the true tags of each sentence.
    predictions: as many predicted ones.
  """
  true = guessed = right = 0
  for sentence, guess in zip(labels, predictions):
    wanted, found = find(sentence), find(guess)
    true, guessed = true + len(wanted), guessed + len(found)
    right += len(wanted & found)
  return {
    "entity_precision": right / guessed if guessed else 0.0,
    "entity_recall": right / true if true else 0.0,
    "entity_f1": 2 * right / (true + guessed) if true + guessed else 0.0,
    "entities": true,
  }
