"""The places of a row that heads read; what else is computed is for nobody."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxlm.layers.heads import heads as head_parts
from jaxlm.models import _places
from jaxlm.types import Array

PREDICTED, SENTENCES = "predict_positions", "cls_positions"


class Reading(NamedTuple):
  """Some places of rows.

  Attributes:
    places: [batch, k] int32.
    keep: [batch, k] bool, slots that are not empty.
    batch: the batch whose places are those among the k.
  """

  places: Array
  keep: Array
  batch: dict[str, Any]

  def gathered(self, x, ctx):
    """States and context at the places."""
    ctx = _places.context(ctx, self.places, self.keep)
    return _places.gather(x, self.places), ctx

  def scattered(self, states, onto):
    """`onto` [batch, length, width] with the states [batch, k, width]."""
    places = jnp.where(self.keep, self.places, onto.shape[1])
    return _places.scatter(states, places, onto)


def reading(heads: Mapping[str, Any], batch) -> Reading | None:
  """What the heads read of a batch; None where one reads whole rows.

  Args:
    heads: name -> head; a head says by its `places` what it reads.
    batch: see docs/design.md.
  """
  keys = {getattr(head, "places", "") for head in heads.values()}
  rows = batch["inputs"].shape[0]
  places, keep, moved, start = [], [], dict(batch), 0
  for key in sorted(keys, reverse=True):
    if key == SENTENCES and key not in batch:
      found = jnp.zeros((rows, 1), jnp.int32)  # the first of each row
    elif key in batch:
      found = batch[key]
    else:
      return None
    count = found.shape[1]
    filled = jnp.ones(found.shape, bool)
    if key == PREDICTED and "predict_weights" in batch:
      filled = batch["predict_weights"] > 0
    places.append(found)
    keep.append(filled)
    here = jnp.arange(start, start + count, dtype=jnp.int32)
    moved[key] = jnp.broadcast_to(here[None], (rows, count))
    start += count
  if not places:
    return None
  return Reading(
    jnp.concatenate(places, axis=1), jnp.concatenate(keep, axis=1), moved
  )


def count(spec: Mapping[str, Any], batch_spec) -> int:
  """Places a row that the heads of a model spec read."""
  kinds = [head["kind"] for head in spec.get("heads", {}).values()]
  keys = {getattr(head_parts.entry(k).build, "places", "") for k in kinds}
  total = 0
  for key in keys:
    if key == SENTENCES and key not in batch_spec:
      total += 1
    elif key in batch_spec:
      total += batch_spec[key].shape[1]
    else:
      return batch_spec["inputs"].shape[1]
  return total or batch_spec["inputs"].shape[1]
