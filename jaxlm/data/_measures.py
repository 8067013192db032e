"""Measures of batches that hold more than text; see `statistics.Measure`."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np

from jaxlm.data import _label_measures, _views
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
    return [f"rows of sources: {_label_measures.told(self.rows)}"]


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


class Targets(NamedTuple):
  """What a decoder writes.

  Attributes:
    packing: share of its places that are no padding.
    ratio: tokens to write for each token that the encoder reads.
  """

  packing: float
  ratio: float

  @staticmethod
  def counted(batch: Batch, text: Batch, tokenizer) -> Mapping[str, int]:
    """See `statistics.Measure`."""
    if "decoder_inputs" not in batch:
      return {}
    return {
      "written": (batch["weights"] > 0).sum(),
      "places": batch["weights"].size,
      "read": (_views.read(batch).segments > 0).sum(),
    }

  @classmethod
  def of(cls, sums, prepared) -> Self:
    """See `statistics.Measure`."""
    written = float(sums["written"])
    return cls(written / sums["places"], written / max(sums["read"], 1))

  def lines(self) -> list[str]:
    """See `statistics.Measure`."""
    return [
      f"targets: packing efficiency {self.packing:.2%}, {self.ratio:.2f} "
      "tokens a token of the inputs"
    ]


MEASURES = (Sources, Rewording, Notes, Visible, Targets)


def _texts(ids, segments, ordinary) -> list[list[int]]:
  """The text of each segment, without special tokens."""
  return [
    ids[(segments == segment) & ordinary[ids]].tolist()
    for segment in range(1, segments.max(initial=0) + 1)
  ]
