"""What heads share: reading hidden states at given places."""

import jax.numpy as jnp


def gather(hidden, index):
  """hidden [batch, length, width] at index [batch, k] -> [batch, k, width]."""
  return jnp.take_along_axis(hidden, index[..., None], axis=1)


def sentences(hidden, batch):
  """Hidden states that sentence-level heads read, [batch, k, width].

  Those at `cls_positions` [batch, k], or the first of each row.
  """
  if "cls_positions" in batch:
    return gather(hidden, batch["cls_positions"])
  return hidden[:, :1]
