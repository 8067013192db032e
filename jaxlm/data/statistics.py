"""What batches really hold: realised rates, packing, how words are spelled."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from jaxlm.data import order, tasks
from jaxlm.data.corruption import corruptions
from jaxlm.types import Batch, Task


class Rates(NamedTuple):
  """Measured over some batches; shares are of the text's tokens.

  Special tokens are no text; where a row has copies, each of them counts.

  Attributes:
    sequences: rows of the cache that were read, each once a visit.
    rows: rows of batches: sequences times copies.
    tokens: of the rows' text.
    predictions: tokens to predict, or to write where there is a decoder.
    packing: share of what the model reads that is no padding.
    segments: documents a row.
    corrupted: share of the text that the model does not see as it is.
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

  def lines(self) -> list[str]:
    """As text."""
    copies = self.rows // self.sequences
    told, by_all = f"{self.sequences:,} rows of text", ""
    if copies > 1:
      told += f", {copies} copies of each: {self.rows:,} rows of batches"
      by_all = f", {self.predicted * copies:.2%} by all copies"
    return [
      told,
      f"packing efficiency {self.packing:.2%}, {self.segments:.2f} documents "
      "a row",
      f"corrupted {self.corrupted:.2%} of a row's text ([MASK] "
      f"{self.masked:.2%}); predicted though shown as it is {self.kept:.2%}",
      f"predicted {self.predicted:.2%} of a row's text{by_all}: "
      f"{self.predictions:,} predictions",
      f"unknown tokens {self.unknown:.3%} of text",
    ]


def rates(pairs: Iterable[tuple[Batch, Mapping]], tokenizer, copies=1) -> Rates:
  """Measures batches against the rows that they were made of.

  Args:
    pairs: batches as `Task.batch_at` gives them, and for each its `tokens`
      and `segments` [batch, text length] before corruption.
    tokenizer: of the data.
    copies: rows of a batch that are made of one row.
  """
  sums = collections.Counter()
  special = np.asarray(tokenizer.is_special).copy()
  special[tokenizer.special_ids.get("unk", 0)] = False
  special[tokenizer.special_ids.get("pad", 0)] = True
  for batch, rows in pairs:
    text = ~special[rows["tokens"]] & (rows["segments"] > 0)
    read = batch.get("segments", np.ones_like(batch["inputs"]))
    sums["rows"] += len(read)
    sums["tokens"] += text.sum()
    sums["real"] += (read > 0).sum()
    sums["read"] += read.size
    sums["segments"] += read.max(axis=1).sum()
    unk = tokenizer.special_ids.get("unk", -1)
    sums["unknown"] += (rows["tokens"] == unk)[text].sum()
    sums.update(_hidden(batch, rows["tokens"], text, tokenizer))
    sums.update(_predicted(batch))
  share = lambda name: float(sums[name]) / max(sums["tokens"], 1)
  return Rates(
    sequences=int(sums["rows"]) // copies,
    rows=int(sums["rows"]),
    tokens=int(sums["tokens"]),
    predictions=int(sums["predictions"]),
    packing=float(sums["real"]) / max(sums["read"], 1),
    segments=float(sums["segments"]) / max(sums["rows"], 1),
    unknown=share("unknown"),
    **{name: share(name) for name in ("corrupted", "masked", "kept")},
  )


def training_pairs(
  task: Task,
  cache,
  spec: Mapping,
  *,
  length: int,
  seed: int,
  steps: int,
  rows_of: Callable = order.rows_of_step,
) -> Iterator[tuple[Batch, Mapping]]:
  """The batches of the first steps and the rows that they were made of.

  Args:
    task: of `tasks.make`, for training.
    cache: whose rows it reads.
    spec: of the corruption.
    length: tokens that the model reads.
    seed: of the run.
    steps: how many.
    rows_of: of the order of its rows.
  """
  corruption = corruptions.build(spec)
  copies = tasks.copies_of(corruption, length)
  together = getattr(corruption, "keep_copies_together", True)
  rows, size = cache.rows("train"), task.batch_spec["inputs"].shape[0]
  for step in range(steps):
    indices, _, _ = order.copies_of_step(
      seed, step, size, rows, copies, together, rows_of
    )
    yield task.batch_at(seed, step), cache.gather("train", indices)


def _hidden(batch, tokens, text, tokenizer) -> dict[str, int]:
  """Tokens of the text that the inputs do not show, and which are masked."""
  inputs = batch["inputs"]
  masked = inputs == tokenizer.special_ids.get("mask", -1)
  if inputs.shape == tokens.shape and "decoder_inputs" not in batch:
    changed = (inputs != tokens) & text
    return {"corrupted": changed.sum(), "masked": (masked & text).sum()}
  if "decoder_inputs" not in batch:  # shifted: all is shown
    return {}
  gone = 0
  for row, shown, here in zip(tokens, inputs, text):
    left = collections.Counter(row[here].tolist())
    left.subtract(collections.Counter(shown.tolist()))
    gone += sum(n for n in left.values() if n > 0)
  return {"corrupted": gone, "masked": masked.sum()}


def _predicted(batch) -> dict[str, int]:
  if "predict_weights" not in batch:
    weights = batch.get("weights")
    return {} if weights is None else {"predictions": (weights > 0).sum()}
  row, slot = np.nonzero(batch["predict_weights"])
  shown = batch["inputs"][row, batch["predict_positions"][row, slot]]
  kept = shown == batch["predict_ids"][row, slot]
  return {"predictions": len(row), "kept": kept.sum()}
