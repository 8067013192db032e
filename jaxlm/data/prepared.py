"""What `prepare` of every data set hands to training, and batches as text."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxlm.data import _decoder_text
from jaxlm.types import Batch, Task

if TYPE_CHECKING:
  from jaxlm.data.tokenizer import Tokenizer


class Prepared(NamedTuple):
  """Data that is ready to train on.

  Attributes:
    tokenizer: a `jaxlm.data.tokenizer.Tokenizer`, no TensorFlow inside.
    train: the Task of training batches.
    validation: the Task of held-out batches, or None where there are none.
    facts: hashes, counts, `vocab_size` and, for labelled data, `classes`.
  """

  tokenizer: "Tokenizer"
  train: Task
  validation: Task | None
  facts: Mapping[str, Any]


def describe(batch: Batch, tokenizer: "Tokenizer", rows: int = 4) -> str:
  """Shows a batch as text: documents, predictions, labels, realised rates.

  Args:
    batch: numpy arrays as `Task.batch_at` gives them.
    tokenizer: of the data.
    rows: how many rows to show; the rates are those of the whole batch.
  """
  lines = []
  for row in range(min(rows, len(batch["inputs"]))):
    lines += _row(batch, tokenizer, row)
  return "\n".join([*lines, *_rates(batch, tokenizer)])


def _row(batch, tokenizer, row) -> list[str]:
  inputs = batch["inputs"][row]
  segments = _segments(batch)[row]
  lines = [
    f"row {row}: {segments.max()} segments, {(segments > 0).sum()} tokens"
  ]
  for segment in range(1, segments.max() + 1):
    places = np.flatnonzero(segments == segment)
    lines.append(f"  {segment} | {_text(tokenizer, inputs[places])}")
    around = _boundaries(batch, row)
    told = [
      f"{place}: {tokenizer.id_to_token(inputs[place])} -> "
      f"{tokenizer.id_to_token(target)}{around.get(place, '')}"
      for place, target in _predictions(batch, row)
      if segments[place] == segment
    ]
    if told and "predict_ids" in batch:
      lines.append(f"    predict {', '.join(told)}")
    lines += _decoder_text.lines(batch, tokenizer, row, segment)
    lines += _labels(batch, row, places)
  return lines


def _predictions(batch, row) -> list[tuple[int, int]]:
  """(place, id) of what a row must predict."""
  if "predict_ids" in batch:
    counts = batch["predict_weights"][row] > 0
    places = batch["predict_positions"][row][counts]
    return list(zip(places, batch["predict_ids"][row][counts]))
  if "targets" in batch and "decoder_inputs" not in batch:
    places = np.flatnonzero(batch["weights"][row] > 0)
    return list(zip(places, batch["targets"][row][places]))
  return []


def _boundaries(batch, row) -> dict[int, str]:
  """place -> between which tokens its hidden span lies (SpanBERT)."""
  if "boundary_weights" not in batch:
    return {}
  counts = batch["boundary_weights"][row] > 0
  places = batch["predict_positions"][row][counts]
  ends = batch["boundary_positions"][row][counts]
  return {p: f" (between {a} and {b})" for p, (a, b) in zip(places, ends)}


def _labels(batch, row, places) -> list[str]:
  if "labels" not in batch:
    return []
  weights = np.broadcast_to(
    batch.get("label_weights", 1.0), batch["labels"].shape
  )
  starts = batch.get("cls_positions", np.zeros_like(batch["labels"], int))
  return [
    f"    label {batch['labels'][row][k]}"
    for k in np.flatnonzero(weights[row] > 0)
    if starts[row][k] in places
  ]


def _rates(batch, tokenizer) -> list[str]:
  segments = _segments(batch)
  real = int((segments > 0).sum())
  lines = [f"{real:,} tokens, {1 - real / segments.size:.2%} padding"]
  lines += _decoder_text.rates(batch)
  found = [
    (batch["inputs"][row][place], target)
    for row in range(len(segments))
    for place, target in _predictions(batch, row)
  ]
  if not found:
    return lines
  lines.append(f"{len(found):,} predictions, {len(found) / real:.2%} of tokens")
  if "predict_ids" in batch:
    seen, target = np.array(found).T
    masked = seen == tokenizer.special_ids.get("mask", -1)
    kept = ~masked & (seen == target)
    other = ~masked & ~kept
    lines.append(
      f"predicted tokens are shown masked {masked.mean():.1%}, as another "
      f"token {other.mean():.1%}, as they are {kept.mean():.1%}"
    )
  return lines


def _segments(batch):
  return batch.get("segments", np.ones_like(batch["inputs"]))


def _text(tokenizer, ids) -> str:
  return tokenizer.decode(ids, specials=True)
