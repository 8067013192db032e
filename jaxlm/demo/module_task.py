"""A real labelled task: which top-level module does a docstring come from?

The classes are the packages of the standard library with the most docstrings
and enough files for a split by file: test texts come from files that neither
pre-training nor fine-tuning has seen. The names of the classes are taken out
of every text, or the task would be to find 'tkinter' in it, and texts are cut
to their first `WORDS` words, so that a model with short rows and one that
counts all words read the same.
"""

import collections
import re
from collections.abc import Mapping, Sequence
from typing import TypedDict

from jaxlm import errors
from jaxlm.demo.corpus import SPLITS, Record

MOST_CLASSES = 12
FEWEST_FILES = 5
FEWEST_TEXTS = {"train": 40, "validation": 0, "test": 8}
WORDS = 48  # about 64 word pieces


class Example(TypedDict):
  """A text and the module that it documents."""

  text: str
  label: str


def examples(
  records: Mapping[str, Sequence[Record]],
) -> dict[str, list[Example]]:
  """{'train', 'validation', 'test'} -> examples, from `corpus.split`.

  Raises:
    UserError: fewer than two packages have enough docstrings.
  """
  labels = classes(records)
  if len(labels) < 2:
    raise errors.UserError(
      f"The module task needs packages with {FEWEST_FILES} files of "
      f"docstrings or more; this Python has {len(labels)}. Is its standard "
      "library whole?"
    )
  names = _names(labels)
  return {
    split: [
      Example(text=text, label=record["module"])
      for record in records[split]
      if record["module"] in labels
      and (text := _prepare(record["text"], names))
    ]
    for split in SPLITS
  }


def classes(records: Mapping[str, Sequence[Record]]) -> list[str]:
  """The modules that are told apart, sorted by name."""
  files = collections.defaultdict(set)
  for split in SPLITS:
    for record in records[split]:
      files[record["module"]].add(record["file"])
  counts = {
    split: collections.Counter(r["module"] for r in records[split])
    for split in SPLITS
  }
  enough = [
    module
    for module, found in files.items()
    if len(found) >= FEWEST_FILES
    and all(counts[s][module] >= n for s, n in FEWEST_TEXTS.items())
  ]
  enough.sort(key=lambda m: (-sum(counts[s][m] for s in SPLITS), m))
  return sorted(enough[:MOST_CLASSES])


def majority(examples: Sequence[Example], test: Sequence[Example]) -> float:
  """Accuracy on `test` of always naming the commonest class."""
  counts = collections.Counter(e["label"] for e in examples)
  commonest = min(counts, key=lambda label: (-counts[label], label))
  return sum(e["label"] == commonest for e in test) / len(test)


def _names(labels: Sequence[str]) -> re.Pattern:
  """Matches a class name that stands as a word or inside an identifier."""
  longest_first = sorted(labels, key=len, reverse=True)
  return re.compile(
    rf"(?<![a-z])({'|'.join(map(re.escape, longest_first))})(?![a-z])",
    re.IGNORECASE,
  )


def _prepare(text: str, names: re.Pattern) -> str:
  return " ".join(names.sub(" ", text).split()[:WORDS])
