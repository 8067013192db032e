"""What a batch shows of its text: which arrays are read, and which changed."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxlm.types import Batch


class View(NamedTuple):
  """One reading of a batch, both [batch, length]."""

  inputs: np.ndarray
  segments: np.ndarray


def read(batch: Batch) -> View:
  """What the model reads; all of it is text where nothing is packed."""
  inputs = batch["inputs"]
  return View(inputs, batch.get("segments", np.ones_like(inputs)))


def masked(batch: Batch) -> View | None:
  """The second view of a masked LM, beside what a contrast reads; or None."""
  if "corrupted_inputs" not in batch or "predict_positions" not in batch:
    return None
  segments = batch.get("corrupted_segments", batch["segments"])
  return View(batch["corrupted_inputs"], segments)


def predicted(batch: Batch) -> View:
  """The view whose places `predict_positions` counts."""
  return masked(batch) or read(batch)


def in_place(batch: Batch, text: Batch) -> np.ndarray | None:
  """Ids in the places of the text's tokens; None where tokens moved."""
  if found := masked(batch):
    return found.inputs
  moves = "decoder_inputs" in batch or np.any(text.get("reworded", False))
  same = batch["inputs"].shape == text["tokens"].shape
  return batch["inputs"] if same and not moves else None


def is_text(tokenizer) -> np.ndarray:
  """bool [vocab]: what is no special token, and what is unknown."""
  table = ~np.asarray(tokenizer.is_special)
  for role, counts in (("unk", True), ("pad", False)):
    if role in tokenizer.special_ids:
      table[tokenizer.special_ids[role]] = counts
  return table


def left_out(text: Sequence[int], shown: Sequence[int]) -> Counter:
  """Tokens of a text that are not shown, each as often as it lacks."""
  left = Counter(text)
  left.subtract(Counter(shown))
  return +left


def moved(text: Sequence[int], shown: Sequence[int]) -> int:
  """How many tokens are shown out of the text's order, at least.

  Those beside a longest common subsequence, which is counted a bit a token
  (Crochemore et al., 2001).
  """
  places: dict[int, int] = {}
  for at, token in enumerate(text):
    places[token] = places.get(token, 0) | 1 << at
  full = (1 << len(text)) - 1
  free = full
  for token in shown:
    here = free & places.get(token, 0)
    free = ((free + here) | (free - here)) & full
  return len(shown) - (len(text) - free.bit_count())
