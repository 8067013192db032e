"""One vector a sentence from the states of its tokens."""

import jax.numpy as jnp

POOLINGS = ("cls", "mean")


def pool(hidden, segments, places, pooling: str):
  """Pooled states.

  Args:
    hidden: [batch, length, width].
    segments: int32 [batch, length]; a sentence is a segment, 0 is padding.
    places: int32 [batch, k], a token of each sentence.
    pooling: 'cls', the states at `places`; or 'mean' over the segment there,
      special tokens included.

  Returns:
    float32 or wider [batch, k, width].
  """
  wide = hidden.astype(jnp.promote_types(hidden.dtype, jnp.float32))
  if pooling == "cls":
    return jnp.take_along_axis(wide, places[..., None], axis=1)
  own = jnp.take_along_axis(segments, places, axis=1)
  inside = (segments[:, None, :] == own[..., None]) & (own[..., None] > 0)
  inside = inside.astype(wide.dtype)
  total = jnp.einsum("bkl,bld->bkd", inside, wide, precision="highest")
  return total / jnp.maximum(jnp.sum(inside, axis=-1, keepdims=True), 1.0)
