"""Names for the plain data that passes between rooms."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray
Spec = Mapping[str, Any]  # plain data: {"kind": "attention", "heads": 12}
Batch = Mapping[str, Array]
BatchSpec = Mapping[str, jax.ShapeDtypeStruct]


class Task(NamedTuple):
  """A source of batches: the batch of a step is a function of (seed, step).

  Attributes:
    name: what logs call it.
    batch_spec: key -> `jax.ShapeDtypeStruct` of the global batch.
    batch_at: `(seed, step, shard=(index, count)) -> Batch`, numpy, this
      shard's rows of the global batch.
    rows: rows of one epoch.
    longest: most tokens of a document, where rows are packed of shorter ones;
      0: as long as a row.
    text_at: `(seed, step) -> Batch`, the text of the global batch before
      anything was hidden or reworded, for people and measures: `tokens`,
      `segments` [B, text length]; `source` (str [B]) where rows have several,
      `reworded` (bool [B]) where texts have another wording. None: `inputs`
      show all of it.
  """

  name: str
  batch_spec: BatchSpec
  batch_at: Callable[..., Batch]
  rows: int
  longest: int = 0
  text_at: Callable[..., Batch] | None = None


class Losses(NamedTuple):
  """What a head gives in training that scores the targets itself.

  In place of logits over a vocabulary that is too large to score whole.

  Attributes:
    nats: -log p of each target, or what stands for it, float32 [...].
  """

  nats: Array


class Outcome(NamedTuple):
  """What an objective returns for one (micro)batch.

  Attributes:
    sums: term -> summed loss, float32 scalar.
    metrics: name -> (sum, weight), float32 scalars.
    extra: updated mutable collections, {} where the model has none.
  """

  sums: Mapping[str, Array]
  metrics: Mapping[str, tuple[Array, Array]]
  extra: Mapping[str, Any] = {}
