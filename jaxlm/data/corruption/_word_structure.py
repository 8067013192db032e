"""Shuffled trigrams in TensorFlow ops: what `WordStructure` binds."""

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _e2s2, _rows, _threefry

# Streams of random numbers of a row, behind those of `_masking`.
_PICKS, _ORDERS = 100, 101


def bind(spec, hide, tokenizer, length: int):
  """`apply(rows, keys) -> features`; see `jaxlm.data.corruption`.

  Args:
    spec: a `WordStructure`.
    hide: makes the features of its masking.
    tokenizer: tells special tokens.
    length: of the inputs.
  """
  ordinary = tf.constant(_rows.ordinary_tokens(tokenizer))
  table = tf.constant(spec.trigrams(length))
  (most,), _ = spec.features(length)["predict_ids"]

  def apply(rows, keys):
    out = hide(rows, keys)
    tokens = tf.ensure_shape(rows["tokens"][:, :length], [None, length])
    segments = out["segments"]
    text = tf.gather(ordinary, tokens) & (segments > 0)
    here = tf.range(length)[None, :]
    told = tf.where(out["predict_weights"] > 0, out["predict_positions"], -1)
    masked = tf.reduce_any(told[:, :, None] == here[:, None, :], axis=1)
    wanted = tf.gather(table, tf.reduce_sum(tf.cast(text, tf.int32), axis=1))
    ranks = _threefry.ranks(keys, _PICKS, length)
    middles = _apart(_middles(text & ~masked, segments), ranks, wanted)
    orders = _threefry.below(keys, _ORDERS, length, 5)
    moved = middles | _e2s2.later(middles, 1) | _e2s2.later(middles, -1)
    places = tf.sort(tf.where(masked | moved, here, length), axis=1)[:, :most]
    counts = places < length
    places = tf.where(counts, places, 0)
    ids = tf.gather(tokens, places, batch_dims=1)
    return out | {
      "inputs": _e2s2.shuffle(out["inputs"], middles, orders),
      "predict_positions": places,
      "predict_ids": tf.where(counts, ids, 0),
      "predict_weights": tf.cast(counts, tf.float32),
    }

  return apply


def _middles(free, segments):
  """bool [batch, length]: middles of trigrams that may be shuffled."""
  found = free
  for by in (1, -1):
    found &= _e2s2.later(free, by) & (_e2s2.later(segments, by) == segments)
  return found


def _apart(legal, ranks, wanted):
  """Up to `wanted` of the legal places, the highest ranks first, 3 apart."""
  here = tf.range(legal.shape[1])[None, :]

  def more(legal, chosen, wanted):
    del chosen
    return tf.reduce_any(tf.reduce_any(legal, axis=1) & (wanted > 0))

  def take(legal, chosen, wanted):
    best = tf.argmax(tf.where(legal, ranks, -1), axis=1, output_type=tf.int32)[
      :, None
    ]
    there = legal & (here == best) & (wanted > 0)[:, None]
    return legal & (tf.abs(here - best) > 2), chosen | there, wanted - 1

  _, chosen, _ = tf.while_loop(
    more, take, (legal, tf.zeros_like(legal), wanted)
  )
  return chosen
