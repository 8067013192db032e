"""How often labels and tags occur; see `statistics.Measure`."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np

from jaxlm.data import _decoder_text
from jaxlm.types import Batch


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
    return [f"labels: {told(self.counts)}"]


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
    return [f"tags: {told(self.counts)}"]


MEASURES = (Labels, Scores, Tags)


def told(counts: Mapping[str, int]) -> str:
  """Shares of counts, the largest first."""
  total = max(sum(counts.values()), 1)
  parts = sorted(counts.items(), key=lambda item: -item[1])
  return ", ".join(f"{name} {n / total:.2%} ({n:,})" for name, n in parts)


def _named(counts: Mapping[int, int], names) -> dict[str, int]:
  return {
    str(names[label]) if label < len(names) else str(label): counts[label]
    for label in sorted(counts)
  }
