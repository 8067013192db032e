"""What batches really hold: realised rates, packing, how words are spelled."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from jaxlm.data import _label_measures, _measures, _views
from jaxlm.data.prepared import Prepared, text_of
from jaxlm.types import Batch, Task


class Measure(Protocol):
  """One thing that is measured of batches that hold it."""

  @staticmethod
  def counted(batch: Batch, text: Batch, tokenizer) -> Mapping:
    """Sums of one batch, {} where it has nothing of this kind.

    Args:
      batch: as `Task.batch_at` gives it.
      text: what it was made of, as `Task.text_at` gives it.
      tokenizer: of the data.
    """

  @classmethod
  def of(cls, sums: Mapping, prepared: Prepared) -> Self:
    """The measure of the sums of some batches."""

  def lines(self) -> list[str]:
    """As text."""


class Rates(NamedTuple):
  """How full rows are, and what is hidden; shares are of the text's tokens.

  Special tokens are no text; where a row has copies, each of them counts.

  Attributes:
    sequences: rows of text that were read, each once a visit.
    rows: rows of batches: sequences times copies.
    tokens: of the rows' text.
    predictions: tokens to predict, or to write where there is a decoder.
    packing: share of what the model reads that is no padding.
    segments: documents a row.
    corrupted: share of the text that the model does not see as it is; of a
      masked second view, where there is one.
    masked: share that reads [MASK].
    kept: share that is predicted and shown as it is.
    unknown: share of the text that the vocabulary cannot spell.
  """

  sequences: int
  rows: int
  tokens: int
  predictions: int
  packing: float
  segments: float
  corrupted: float
  masked: float
  kept: float
  unknown: float

  @property
  def predicted(self) -> float:
    """Predictions for each token of a row's text."""
    return self.predictions / max(self.tokens, 1)

  @staticmethod
  def counted(batch: Batch, text: Batch, tokenizer) -> Mapping[str, int]:
    """See `Measure`."""
    tokens = text["tokens"]
    here = _views.is_text(tokenizer)[tokens] & (text["segments"] > 0)
    read = _views.read(batch).segments
    unk = tokenizer.special_ids.get("unk", -1)
    return {
      "rows": len(read),
      "tokens": here.sum(),
      "real": (read > 0).sum(),
      "read": read.size,
      "segments": read.max(axis=1).sum(),
      "unknown": (tokens == unk)[here].sum(),
      **_hidden(batch, text, here, tokenizer),
      **_predicted(batch),
    }

  @classmethod
  def of(cls, sums: Mapping[str, int], prepared: Prepared) -> Self:
    """See `Measure`."""
    return cls.shares(sums, prepared.facts.get("copies_of_a_row", 1))

  @classmethod
  def shares(cls, sums: Mapping[str, int], copies: int) -> Self:
    """Of sums, where so many rows of a batch are made of one row."""
    share = lambda name: float(sums[name]) / max(sums["tokens"], 1)
    return cls(
      sequences=int(sums["rows"]) // copies,
      rows=int(sums["rows"]),
      tokens=int(sums["tokens"]),
      predictions=int(sums["predictions"]),
      packing=float(sums["real"]) / max(sums["read"], 1),
      segments=float(sums["segments"]) / max(sums["rows"], 1),
      unknown=share("unknown"),
      **{name: share(name) for name in ("corrupted", "masked", "kept")},
    )

  def lines(self) -> list[str]:
    """See `Measure`."""
    copies = self.rows // self.sequences
    told, by_all = f"{self.sequences:,} rows of text", ""
    if copies > 1:
      told += f", {copies} copies of each: {self.rows:,} rows of batches"
      by_all = f", {self.predicted * copies:.2%} by all copies"
    lines = [
      told,
      f"packing efficiency {self.packing:.2%}, {self.segments:.2f} documents "
      "a row",
    ]
    if self.corrupted or self.kept:
      lines.append(
        f"corrupted {self.corrupted:.2%} of a row's text ([MASK] "
        f"{self.masked:.2%}); predicted though shown as it is {self.kept:.2%}"
      )
    if self.predictions:
      lines.append(
        f"predicted {self.predicted:.2%} of a row's text{by_all}: "
        f"{self.predictions:,} predictions"
      )
    return [*lines, f"unknown tokens {self.unknown:.3%} of text"]


MEASURES: tuple[type[Measure], ...] = (
  Rates,
  *_measures.MEASURES,
  *_label_measures.MEASURES,
)


def measure(
  prepared: Prepared, *, seed: int, steps: int
) -> dict[type, Measure]:
  """Measures the training batches of the first steps.

  Args:
    prepared: of a data set.
    seed: of the run.
    steps: how many.

  Returns:
    measure -> what it found, for each whose subject the batches hold.
  """
  sums = {part: Counter() for part in MEASURES}
  for pair in training_pairs(prepared.train, seed, steps):
    for part, total in sums.items():
      total.update(part.counted(*pair, prepared.tokenizer))
  found = {part: total for part, total in sums.items() if total}
  return {part: part.of(total, prepared) for part, total in found.items()}


def training_pairs(
  task: Task, seed: int, steps: int
) -> Iterator[tuple[Batch, Batch]]:
  """The batches of the first steps, and the text that they were made of."""
  for step in range(steps):
    batch = task.batch_at(seed, step)
    yield batch, text_of(task, seed, step, batch)


def fit(report: Mapping[str, Any]) -> list[str]:
  """A `tokenizer_report` in lines: of all text, then of each source."""
  key = "tokens_per_word"
  of = [name.removesuffix(key) for name in report if name.endswith(key)]
  return [
    f"{name.removesuffix('.') or report['measured_on']}: "
    f"{report[name + key]:.3f} tokens a word, "
    f"{report[name + 'unknown_rate']:.3%} unknown"
    + (f", of {report['words']:,} words" if not name else "")
    for name in of
  ]


def _hidden(batch, text, here, tokenizer) -> dict[str, int]:
  """Tokens of the text that the inputs do not show, and which are masked."""
  mask = tokenizer.special_ids.get("mask", -1)
  shown = _views.in_place(batch, text)
  if shown is not None:
    changed = (shown != text["tokens"]) & here
    return {
      "corrupted": changed.sum(),
      "masked": ((shown == mask) & here).sum(),
    }
  if "decoder_inputs" not in batch:  # shifted or reworded: all is shown
    return {}
  gone = [
    _views.left_out(row[own].tolist(), inputs.tolist()).total()
    for row, inputs, own in zip(text["tokens"], batch["inputs"], here)
  ]
  return {"corrupted": sum(gone), "masked": (batch["inputs"] == mask).sum()}


def _predicted(batch) -> dict[str, int]:
  if "predict_weights" not in batch:
    weights = batch.get("weights")
    return {} if weights is None else {"predictions": (weights > 0).sum()}
  row, slot = np.nonzero(batch["predict_weights"])
  inputs = _views.predicted(batch).inputs
  shown = inputs[row, batch["predict_positions"][row, slot]]
  kept = shown == batch["predict_ids"][row, slot]
  return {"predictions": len(row), "kept": kept.sum()}
