"""What every layer may need beside its input: arrays and a few static facts."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from jaxlm.types import Array


@flax.struct.dataclass
class Context:
  """Travels with the activations through scan, remat and custom_vjp.

  Attributes:
    segments: [batch, length] int32, 0 padding, 1.. the document of a token.
    positions: [batch, length] int32, restarting in every document.
    bias: a structured score bias (`pallas_kernels.flash_attention.bias`) that
      all layers add, or None.
    shared: arrays that all layers read, or None.
    memory: [batch, source, width] states of an encoder that a decoder reads,
      or None.
    memory_segments: [batch, source] int32, the encoder's segments.
    vectors: [batch, length, features] frozen vectors of the input's words, or
      None.
    score_terms: kinds of scores that a query and a key add up; mixers divide
      their dot products by sqrt(score_terms * head_dim) (static).
    train: whether dropout is on (static).
    capture: names of what `capture` keeps (static).
    cache_length: keys and values kept for decoding; 0 for none (static).
  """

  segments: Array
  positions: Array
  bias: Any = None
  shared: Any = None
  memory: Array | None = None
  memory_segments: Array | None = None
  vectors: Array | None = None
  score_terms: int = flax.struct.field(pytree_node=False, default=1)
  train: bool = flax.struct.field(pytree_node=False, default=False)
  capture: frozenset[str] = flax.struct.field(
    pytree_node=False, default=frozenset()
  )
  cache_length: int = flax.struct.field(pytree_node=False, default=0)

  @property
  def mask(self) -> Array:
    """[batch, length] bool, True at real tokens."""
    return self.segments > 0


def positions_of(segments: Array) -> Array:
  """[batch, length] positions that restart where the segment changes."""
  index = jnp.arange(segments.shape[-1])[None, :]
  starts = segments != jnp.pad(segments, ((0, 0), (1, 0)))[:, :-1]
  starts = starts.at[:, 0].set(True)
  first = jnp.where(starts, index, 0)
  return (index - jnp.maximum.accumulate(first, axis=-1)).astype(jnp.int32)


def vectors_of(batch) -> Array | None:
  """Vectors of `inputs` [batch, length, width], or None.

  `word_vectors` holds one row more, of what the last token predicts.
  """
  if "word_vectors" not in batch:
    return None
  return batch["word_vectors"][:, : batch["inputs"].shape[1]]


def neighbours(batch, directions: int = 1) -> tuple[Array, Array]:
  """What each token is to predict: the next token, and the one before.

  Nothing is predicted across the border of two documents.

  Args:
    batch: `inputs`, `targets`, `weights` [batch, length], already shifted, and
      where given `segments`.
    directions: 1 for the next token alone, 2 for both.

  Returns:
    ids int32 and weights float32, [batch, length], or [batch, length, 2].
  """
  if directions == 1:
    return batch["targets"], batch["weights"]
  inputs = batch["inputs"]
  segments = batch.get("segments", jnp.ones_like(inputs))
  same = (segments > 0) & (behind(segments) == segments)
  labels = jnp.stack([batch["targets"], behind(inputs)], axis=-1)
  weights = [batch["weights"], same.astype(batch["weights"].dtype)]
  return labels, jnp.stack(weights, axis=-1)


def behind(array: Array) -> Array:
  """[batch, length, ...] moved one place back; 0 in the first."""
  pads = ((0, 0), (1, 0), *((0, 0),) * (array.ndim - 2))
  return jnp.pad(array[:, :-1], pads)


def capture(module: nn.Module, ctx: Context, name: str, value: Array) -> None:
  """Keeps `value` in 'intermediates' if `name` was asked for."""
  if name in ctx.capture:
    module.sow("intermediates", name, value)
