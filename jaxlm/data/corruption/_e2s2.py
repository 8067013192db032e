"""E2S2's second view in TensorFlow ops: what `E2S2` binds to a tokenizer."""

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _counts, _rows, _threefry
from jaxlm.data.corruption.e2s2 import REPLACED, SHUFFLED

# Streams of random numbers of a row, behind those of the first view.
_PICKS, _ORDERS, _PLACES, _TOKENS = range(100, 104)
# What a trigram may become, as places; not what it is.
_ORDER = np.array([[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])


def bind(spec, infill, tokenizer, length: int):
  """`apply(rows, keys) -> features`; see `jaxlm.data.corruption`.

  Args:
    spec: an `E2S2`.
    infill: makes the features of the first view.
    tokenizer: tells words and special tokens.
    length: of the inputs.
  """
  ordinary = tf.constant(_rows.ordinary_tokens(tokenizer))
  word_starts = tf.constant(np.asarray(tokenizer.word_starts, bool))
  pool = tf.constant(np.asarray(tokenizer.random_pool, np.int32))

  def apply(rows, keys):
    out = infill(rows, keys)
    ids, segments = out["inputs"], out["segments"]
    text = tf.gather(ordinary, ids) & (segments > 0)
    new, shuffled = ids, text & False
    if spec.shuffle:
      starts = _rows.units(text, tf.gather(word_starts, ids), segments)
      chosen = centres(spec, keys, text, starts, segments)
      new = shuffle(ids, chosen, _threefry.below(keys, _ORDERS, length, 5))
      shuffled = new != ids
    if spec.replace:
      places = chosen_places(spec, keys, text & ~shuffled, segments)
      drawn = _threefry.below(keys, _TOKENS, length, len(pool))
      new = tf.where(places, tf.gather(pool, drawn), new)
    tags = tf.where(new != ids, REPLACED, 0)
    tags = tf.where(shuffled, SHUFFLED, tags)
    return out | {
      "corrupted_inputs": new,
      "tags": tags,
      "tag_weights": tf.cast(segments > 0, tf.float32),
    }

  return apply


def centres(spec, keys, text, starts, segments):
  """bool [batch, length]: the middles of the trigrams to shuffle.

  One word of each window is drawn, and taken where it is a single token
  between two others of the text, and no trigram overlaps the one before.

  Args:
    spec: an `E2S2`.
    keys: of the rows.
    text: bool [batch, length], tokens that are not special.
    starts: bool [batch, length], first tokens of words.
    segments: int32 [batch, length], 0 where padded.
  """
  length = text.shape[1]
  number = tf.maximum(tf.cumsum(tf.cast(starts, tf.int32), axis=1) - 1, 0)
  words = tf.reduce_sum(tf.cast(starts, tf.int32), axis=1, keepdims=True)
  window = number // spec.window
  draws = _threefry.uniform(keys, _PICKS, -(-length // spec.window))
  draws = tf.gather(draws, window, batch_dims=1)
  size = tf.minimum(spec.window, words - window * spec.window)
  pick = tf.cast(draws * tf.cast(size, tf.float32), tf.int32)
  chosen = starts & (number % spec.window == pick)
  alone = later(starts, 1) | ~later(text, 1)
  chosen &= alone & later(text, 1) & later(text, -1)
  chosen &= ~(later(chosen, -1) | later(chosen, -2))
  budgets = np.maximum(_counts.table(spec.shuffle, length, "exact"), 1)
  if spec.most_shuffles:
    budgets = np.minimum(budgets, spec.most_shuffles)
  real = tf.reduce_sum(tf.cast(segments > 0, tf.int32), axis=1, keepdims=True)
  turn = tf.cumsum(tf.cast(chosen, tf.int32), axis=1)
  return chosen & (turn <= tf.gather(budgets, real))


def shuffle(ids, centres, orders):
  """Texts with the trigrams around `centres` in other orders.

  Args:
    ids: int32 [batch, length].
    centres: bool [batch, length], at least three places apart.
    orders: int32 [batch, length], from 0 to 4, which order.
  """
  moves = tf.constant(np.pad(_ORDER - np.arange(3), ((1, 0), (0, 0))), tf.int32)
  order = tf.where(centres, orders + 1, 0)
  move = sum(
    tf.gather(moves[:, part], later(order, 1 - part)) for part in range(3)
  )
  here = tf.range(ids.shape[1])[None, :]
  return tf.gather(ids, here + move, batch_dims=1)


def chosen_places(spec, keys, free, segments):
  """bool [batch, length]: ceil(replace * tokens) of the places that are free.

  As many as there are, if there are fewer.
  """
  length = free.shape[1]
  table = _counts.table(spec.replace, length, "ceil")
  real = tf.reduce_sum(tf.cast(segments > 0, tf.int32), axis=1)
  ranks = _threefry.ranks(keys, _PLACES, length)
  most = int(table[-1])
  _, order = tf.math.top_k(tf.where(free, ranks, -1), k=most)
  wanted = tf.range(most)[None, :] < tf.gather(table, real)[:, None]
  places = tf.where(wanted, order, length)
  here = tf.range(length)[None, :, None]
  return free & tf.reduce_any(places[:, None, :] == here, axis=2)


def later(x, by: int):
  """x as it is `by` places on; 0 or False behind the ends."""
  if by >= 0:
    return tf.pad(x[:, by:], [[0, 0], [0, by]])
  return tf.pad(x[:, :by], [[0, 0], [-by, 0]])
