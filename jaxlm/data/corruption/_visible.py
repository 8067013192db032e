"""Visible masking in TensorFlow ops."""

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _threefry

# Streams of random numbers of a row, apart from those of `_masking`.
_ORDER, _REPLACEMENTS, _LEFT_OUT = 101, 102, 103
_LAST = 2**31 - 1


def bind(masking, tokenizer, length: int):
  """`apply(rows, keys) -> features` of a `VisibleMasking`."""
  hide = masking.all_masked().bind(tokenizer, length)
  special = tf.constant(np.asarray(tokenizer.is_special, bool))
  pool = tf.constant(np.asarray(tokenizer.random_pool, np.int32))
  hidden, changed = (
    tf.constant(table, tf.int32)
    for table in (masking.hidden(length), masking.changed(length))
  )

  def apply(rows, keys):
    out = hide(rows, keys)
    tokens = tf.ensure_shape(rows["tokens"][:, :length], [None, length])
    corrupted = out["inputs"] != tokens  # all of them are [MASK] here
    count = tf.reduce_sum(tf.cast(corrupted, tf.int32), axis=1)
    turn = _turns(corrupted, _threefry.ranks(keys, _ORDER, length))
    masked = corrupted & (turn < tf.gather(hidden, count)[:, None])
    random = corrupted & ~masked & (turn < tf.gather(changed, count)[:, None])
    drawn = _threefry.below(keys, _REPLACEMENTS, length, pool.shape[0])
    inputs = tf.where(random, tf.gather(pool, drawn), tokens)
    inputs = tf.where(masked, out["inputs"], inputs)
    ranks = _threefry.ranks(keys, _LEFT_OUT, length)
    ranks = tf.where(tf.gather(special, tokens), _LAST, ranks)
    shown = (out["segments"] > 0) & ~masked
    places = _first(shown, ranks, masking.seen(length))
    return out | {"inputs": inputs, "visible_positions": places}

  return apply


def _turns(chosen, ranks):
  """int32 [batch, length]: 0 for the chosen token of the highest rank, .."""
  length = ranks.shape[1]
  _, order = tf.math.top_k(tf.where(chosen, ranks, -1), k=length)
  return tf.argsort(order, axis=1)


def _first(chosen, ranks, most: int):
  """The `most` chosen places of the highest ranks, in ascending order.

  Empty slots, at the end, hold the length of the row.
  """
  length = ranks.shape[1]
  score, order = tf.math.top_k(tf.where(chosen, ranks, -1), k=most)
  return tf.sort(tf.where(score >= 0, order, length), axis=1)
