"""Rows without masks, in TensorFlow ops."""

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _rows


def causal(length: int):
  """Inputs and targets shifted by one; rows hold length + 1 tokens."""

  def apply(rows, keys):
    del keys
    tokens, segments = rows["tokens"], rows["segments"]
    here, following = segments[:, :length], segments[:, 1 : length + 1]
    counts = (following > 0) & (following == here)
    targets = tokens[:, 1 : length + 1]
    return {
      "inputs": tokens[:, :length],
      "targets": tf.where(counts, targets, 0),
      "weights": tf.cast(counts, tf.float32),
    } | _rows.common(rows, length)

  return apply


def unchanged(length: int):
  """The row itself."""

  def apply(rows, keys):
    del keys
    return {"inputs": rows["tokens"][:, :length]} | _rows.common(rows, length)

  return apply
