"""Measures of batches that hold more than text; see `statistics.Measure`."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np

from jaxlm.data import _decoder_text, _views
from jaxlm.types import Batch


class Sources(NamedTuple):
  """Rows that each source of a mixture gave, by its name."""

  rows: Mapping[str, int]

  @staticmethod
  def counted(batch: Batch, text: Batch, tokenizer) -> Mapping[str, int]:
    """See `statistics.Measure`."""
    return Counter(text["source"].tolist()) if "source" in text else {}

  @classmethod
  def of(cls, sums, prepared) -> Self:
    """See `statistics.Measure`."""
    return cls(dict(sums))

  def lines(self) -> list[str]:
    """See `statistics.Measure`."""
    return [f"rows of sources: {_shares(self.rows)}"]


class Rewording(NamedTuple):
  """Shares of the text's tokens, of all views of reworded texts.

  Attributes:
    removed: that a view lacks.
    moved: that a view has, out of their order; the fewest that could have
      been moved.
  """

  removed: float
  moved: float

  @staticmethod
  def counted(batch: Batch, text: Batch, tokenizer) -> Mapping[str, int]:
    """See `statistics.Measure`."""
    sums: Counter = Counter()
    own, ordinary = _views.read(batch), _views.is_text(tokenizer)
    for row in np.flatnonzero(text.get("reworded", False)):
      before = _texts(text["tokens"][row], text["segments"][row], ordinary)
      after = _texts(own.inputs[row], own.segments[row], ordinary)
      for a, b in zip(before, after):
        sums["tokens"] += len(a)
        sums["removed"] += _views.left_out(a, b).total()
        sums["moved"] += _views.moved(a, b)
    return sums

  @classmethod
  def of(cls, sums, prepared) -> Self:
    """See `statistics.Measure`."""
    tokens = max(sums["tokens"], 1)
    return cls(sums["removed"] / tokens, sums["moved"] / tokens)

  def lines(self) -> list[str]:
    """See `statistics.Measure`."""
    return [
      f"rewording leaves out {self.removed:.2%} of text and moves "
      f"{self.moved:.2%}"
    ]


class Labels(NamedTuple):
  """How often each class is the label of a text, by its name or number."""

  counts: Mapping[str, int]

  @staticmethod
  def counted(batch: Batch, text: Batch, tokenizer) -> Mapping[int, int]:
    """See `statistics.Measure`."""
    labels = batch.get("labels", np.zeros(0))
    if not np.issubdtype(labels.dtype, np.integer):
      return {}
    return Counter(labels[batch["label_weights"] > 0].tolist())

  @classmethod
  def of(cls, sums, prepared) -> Self:
    """See `statistics.Measure`."""
    return cls(_named(sums, prepared.label_names))

  def lines(self) -> list[str]:
    """See `statistics.Measure`."""
    return [f"labels: {_shares(self.counts)}"]


class Scores(NamedTuple):
  """Mean and standard deviation of so many scores."""

  count: int
  mean: float
  spread: float

  @staticmethod
  def counted(batch: Batch, text: Batch, tokenizer) -> Mapping[str, float]:
    """See `statistics.Measure`."""
    labels = batch.get("labels", np.zeros(0, np.int32))
    if not np.issubdtype(labels.dtype, np.floating):
      return {}
    scores = labels[batch["label_weights"] > 0].astype(np.float64)
    squares = np.square(scores).sum()
    return {"count": scores.size, "sum": scores.sum(), "squares": squares}

  @classmethod
  def of(cls, sums, prepared) -> Self:
    """See `statistics.Measure`."""
    count = max(sums["count"], 1)
    mean = sums["sum"] / count
    variance = max(sums["squares"] / count - mean**2, 0.0)
    return cls(sums["count"], float(mean), float(np.sqrt(variance)))

  def lines(self) -> list[str]:
    """See `statistics.Measure`."""
    return [
      f"scores: mean {self.mean:.3f}, standard deviation {self.spread:.3f}, "
      f"of {self.count:,}"
    ]


class Tags(NamedTuple):
  """How often each class is the tag of a token, by its name."""

  counts: Mapping[str, int]

  @staticmethod
  def counted(batch: Batch, text: Batch, tokenizer) -> Mapping[int, int]:
    """See `statistics.Measure`."""
    if "tags" not in batch:
      return {}
    return Counter(batch["tags"][batch["tag_weights"] > 0].tolist())

  @classmethod
  def of(cls, sums, prepared) -> Self:
    """See `statistics.Measure`."""
    return cls(_named(sums, prepared.label_names or _decoder_text.TAGS))

  def lines(self) -> list[str]:
    """See `statistics.Measure`."""
    return [f"tags: {_shares(self.counts)}"]


class Notes(NamedTuple):
  """Rare words: tokens with a note, as a share; occurrences learned from."""

  noted: float
  spans_a_row: float

  @staticmethod
  def counted(batch: Batch, text: Batch, tokenizer) -> Mapping[str, int]:
    """See `statistics.Measure`."""
    if "note_ids" not in batch:
      return {}
    return {
      "rows": len(batch["note_ids"]),
      "tokens": _views.is_text(tokenizer)[text["tokens"]].sum(),
      "noted": (batch["note_ids"] > 0).sum(),
      "spans": (batch["note_spans"][..., 0] > 0).sum(),
    }

  @classmethod
  def of(cls, sums, prepared) -> Self:
    """See `statistics.Measure`."""
    noted = sums["noted"] / max(sums["tokens"], 1)
    return cls(float(noted), float(sums["spans"]) / sums["rows"])

  def lines(self) -> list[str]:
    """See `statistics.Measure`."""
    return [
      f"notes on {self.noted:.2%} of text; {self.spans_a_row:.2f} occurrences "
      "a row to learn from"
    ]


class Visible(NamedTuple):
  """Tokens that the encoder reads, as a share of those that are there."""

  read: float

  @staticmethod
  def counted(batch: Batch, text: Batch, tokenizer) -> Mapping[str, int]:
    """See `statistics.Measure`."""
    if "visible_positions" not in batch:
      return {}
    segments = _views.read(batch).segments
    ends = np.pad(segments, ((0, 0), (0, 1)))  # of slots that are empty
    seen = np.take_along_axis(ends, batch["visible_positions"], axis=1)
    return {"read": (seen > 0).sum(), "there": (segments > 0).sum()}

  @classmethod
  def of(cls, sums, prepared) -> Self:
    """See `statistics.Measure`."""
    return cls(float(sums["read"]) / max(sums["there"], 1))

  def lines(self) -> list[str]:
    """See `statistics.Measure`."""
    return [f"the encoder reads {self.read:.2%} of the tokens"]


MEASURES = (Sources, Rewording, Labels, Scores, Tags, Notes, Visible)


def _texts(ids, segments, ordinary) -> list[list[int]]:
  """The text of each segment, without special tokens."""
  return [
    ids[(segments == segment) & ordinary[ids]].tolist()
    for segment in range(1, segments.max(initial=0) + 1)
  ]


def _named(counts: Mapping[int, int], names) -> dict[str, int]:
  return {
    str(names[label]) if label < len(names) else str(label): counts[label]
    for label in sorted(counts)
  }


def _shares(counts: Mapping[str, int]) -> str:
  total = max(sum(counts.values()), 1)
  parts = sorted(counts.items(), key=lambda item: -item[1])
  return ", ".join(f"{name} {n / total:.2%} ({n:,})" for name, n in parts)
