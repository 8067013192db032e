"""What every corruption shares: small functions of rows, in TensorFlow ops."""

import numpy as np

from jaxlm.data._tensorflow import tf


def common(rows, length: int):
  """Features that need no corruption: segments, positions and what is there.

  Args:
    rows: int32 tensors of a batch; `segments` is [batch, at least length].
    length: tokens that the model reads.
  """
  segments = rows["segments"][:, :length]
  out = {"segments": segments, "positions": positions(segments)}
  if "types" in rows:
    out["types"] = rows["types"][:, :length]
  if "labels" in rows:
    labels = rows["labels"]
    out["cls_positions"] = rows["cls_positions"]
    out["labels"] = tf.maximum(labels, 0)
    out["label_weights"] = tf.cast(labels >= 0, tf.float32)
  return out


def positions(segments):
  """int32 [batch, length], from 0 in every segment; 0 on padding."""
  here = _places(segments)
  start = running_max(tf.where(changes(segments), here, 0))
  return tf.where(segments > 0, here - start, 0)


def changes(x):
  """bool [batch, length]: differs from the place before; the first does."""
  first = tf.ones_like(x[:, :1], tf.bool)
  return tf.concat([first, x[:, 1:] != x[:, :-1]], axis=1)


def running_max(x):
  """The largest value so far, along the last of two axes; x is not negative.

  By doubling: as many steps as the length has bits.
  """
  length = x.shape[1]
  step = 1
  while step < length:
    x = tf.maximum(x, tf.pad(x, [[0, 0], [step, 0]])[:, :length])
    step *= 2
  return x


def units(selectable, word_start, segments):
  """Where words begin, bool [batch, length].

  A word is a run from a word start to the next, inside one segment; a token
  that may not be selected (a special one) ends it.
  """
  before = tf.pad(selectable[:, :-1], [[0, 0], [1, 0]])
  return selectable & (word_start | ~before | changes(segments))


def _places(x):
  return tf.broadcast_to(tf.range(tf.shape(x)[1])[None, :], tf.shape(x))


def ordinary_tokens(tokenizer) -> np.ndarray:
  """bool [vocab]: text, and what the vocabulary cannot spell."""
  allowed = ~np.asarray(tokenizer.is_special, bool)
  unk = tokenizer.special_ids.get("unk")
  if unk is not None:
    allowed[unk] = True
  return allowed
