"""Pairs of stretches of text and how the two stand, several packed in a row.

Devlin et al., BERT, arXiv:1810.04805: half of the pairs are two neighbouring
stretches of one document (label 0), half have their second stretch from
another document (label 1). ALBERT's order of sentences (arXiv:1909.11942) has
neighbours alone, half of them turned round, and StructBERT (arXiv:1908.04577)
all three. Differs from the released builders in packing the pairs (each a
segment with a label of its own) and in leaving masking, which is dynamic here,
to the corruption.
"""

import array
import dataclasses
import random
from collections.abc import Sequence

import numpy as np

from jaxlm.data import packing
from jaxlm.data.arrangements import _plan, arrangements
from jaxlm.errors import UserError, unknown

RELATIONS = ("next", "previous", "random")
_TRIES = 10  # to find another document


@arrangements.register("pairs", paper="arXiv:1810.04805")
@dataclasses.dataclass(frozen=True)
class Pairs:
  """Pairs of sentences with a label: does B follow A?

  Attributes:
    relations: how B may stand to A, each as often as the others; a pair's
      label is its relation's place here. `next` follows it in the document,
      `previous` precedes it, `random` is from another document. What is left
      of a document and has but one sentence gets a random B, whose label is
      that of `random`, or the last.
    short_seq_prob: share of documents whose pairs are cut to a random length.
    passes: times that pairs are made of all documents, each time others.
    seed: seed of the draws.
    max_per_row: pairs a row holds at most; 0 for no limit.
  """

  relations: Sequence[str] = ("next", "random")
  short_seq_prob: float = 0.1
  passes: int = 1
  seed: int = 0
  max_per_row: int = 0
  sentences = True

  @property
  def packs(self) -> bool:
    """Whether a row may hold several pairs."""
    return self.max_per_row != 1

  def __post_init__(self):
    for name in self.relations:
      if name not in RELATIONS:
        raise unknown("data.arrangement.relations has no", name, RELATIONS)
    if len(set(self.relations)) != len(self.relations) or (
      len(self.relations) < 2
    ):
      raise UserError(
        f"data.arrangement.relations is {list(self.relations)}; expected two "
        f"or three different ones of {', '.join(RELATIONS)}."
      )
    if not 0 <= self.short_seq_prob <= 1:
      raise UserError(
        f"data.arrangement.short_seq_prob is {self.short_seq_prob}; a share "
        "lies in 0..1."
      )
    if self.passes < 1:
      raise UserError(
        f"data.arrangement.passes is {self.passes}; it is at least 1."
      )

  def plan(self, pieces, frame, width) -> _plan.Plan:
    """Builds pairs and packs them.

    Raises:
      UserError: rows that are too short for a pair.
    """
    capacity = width - frame.pair
    if capacity < 2:
      raise UserError(
        f"data.length is {width}: too short for a pair between "
        f"{frame.pair} special tokens."
      )
    builder = Builder(pieces, capacity, self.short_seq_prob, self.relations)
    made = array.array("q")  # a list of tuples would take five times as much
    for turn in range(self.passes):
      # Python promises this generator's stream for a seed, for ever.
      rng = random.Random(f"pairs {self.seed} {turn}")
      for document in range(len(pieces.documents) - 1):
        for pair in builder.of_document(document, rng):
          made.extend(pair)
    made = np.asarray(made, np.int64).reshape(-1, 5)
    return _packed(made, frame, width, self.max_per_row)


class Builder:
  """Makes the pairs of a document out of sentence lengths.

  Args:
    pieces: sentences.
    capacity: tokens of A and B together.
    short_seq_prob, relations: see `Pairs`.
  """

  def __init__(self, pieces, capacity, short_seq_prob, relations):
    self._lengths = pieces.lengths.tolist()
    self._starts = pieces.starts.tolist()
    self._documents = pieces.documents.tolist()
    self._capacity = capacity
    self._short = short_seq_prob
    self._relations = tuple(relations)

  def of_document(self, document, rng) -> list[tuple[int, ...]]:
    """(start A, length A, start B, length B, label) of each pair.

    Args:
      document: which.
      rng: has `random()` in [0, 1) and `randint(low, high)`, both inclusive.
    """
    target = self._capacity
    if rng.random() < self._short:
      target = rng.randint(2, self._capacity)
    at, stop = self._documents[document : document + 2]
    pairs = []
    while at < stop:
      end, size = at, 0
      while end < stop and size < target:
        size += self._lengths[end]
        end += 1
      a_end = at + (rng.randint(1, end - at - 1) if end - at > 1 else 1)
      relation = "random" if end - at == 1 else self._drawn(rng)
      if relation == "random":
        size_a = self._starts[a_end] - self._starts[at]
        b_from, b_to = self._elsewhere(document, target - size_a, rng)
        following = a_end  # what B left unused comes next
      else:
        b_from, b_to, following = a_end, end, end
      a, b = self._truncated(at, a_end, b_from, b_to, rng)
      if relation == "previous":
        a, b = b, a
      pairs.append((*a, *b, self._label(relation)))
      at = following
    return pairs

  def _drawn(self, rng) -> str:
    count = len(self._relations)
    return self._relations[count - 1 - int(rng.random() * count)]

  def _label(self, relation) -> int:
    if relation not in self._relations:
      return len(self._relations) - 1
    return self._relations.index(relation)

  def _elsewhere(self, document, room, rng):
    """Sentences of another document, from a random one on."""
    for _ in range(_TRIES):
      other = rng.randint(0, len(self._documents) - 2)
      if other != document:
        break
    first, stop = self._documents[other : other + 2]
    at = end = rng.randint(first, stop - 1)
    size = 0
    while end < stop and (end == at or size < room):
      size += self._lengths[end]
      end += 1
    return at, end

  def _truncated(self, a_from, a_to, b_from, b_to, rng):
    """Tokens taken off the longer one's front or back, one at a time."""
    a = [self._starts[a_from], self._starts[a_to]]
    b = [self._starts[b_from], self._starts[b_to]]
    while (a[1] - a[0]) + (b[1] - b[0]) > self._capacity:
      longer = a if a[1] - a[0] > b[1] - b[0] else b
      if rng.random() < 0.5:
        longer[0] += 1
      else:
        longer[1] -= 1
    return (a[0], a[1] - a[0]), (b[0], b[1] - b[0])


def _packed(made, frame, width, max_per_row):
  """Packs pairs; each is two spans of one segment."""
  lengths = made[:, 1] + made[:, 3] + frame.pair
  packed = packing.pack(lengths, width, max_per_row)
  pairs = made[packed.items]
  count = len(pairs)
  label = np.full((count, 2), _plan.NONE, np.int8)
  label[:, 0] = pairs[:, 4]
  return _plan.Plan(
    bounds=packed.bounds * 2,
    start=pairs[:, [0, 2]].reshape(-1),
    length=pairs[:, [1, 3]].reshape(-1).astype(np.int32),
    before=np.tile(np.int32([frame.before_a, frame.before_b]), count),
    after=np.tile(np.int32([frame.after_a, frame.after_b]), count),
    segment=np.repeat(_plan.ordinals(packed.bounds), 2),
    type=np.tile(np.uint8([0, frame.type_b]), count),
    label=label.reshape(-1),
  )
