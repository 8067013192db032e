"""Span corruption in TensorFlow ops: what `SpanCorruption` binds."""

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _lengths, _sides, _threefry

_KEPT, _NOISE = range(2)  # streams of random numbers of a row


def bind(spec, *, length, sentinels, eos, start, pad):
  """`apply(rows, keys) -> features`; see `jaxlm.data.corruption`.

  Args:
    spec: a `SpanCorruption`.
    length: of the inputs.
    sentinels: ids, the first span's first.
    eos, start, pad: ids.
  """
  text, target = spec.text_length(length), spec.target_length(length)
  table = np.array(
    [_lengths.counts(n, spec.density, spec.mean_span) for n in range(text + 1)],
    np.int32,
  )
  most = int(table[:, 1].max())
  sentinels = tf.constant(np.asarray(sentinels, np.int32))

  def apply(rows, keys):
    tokens = tf.ensure_shape(rows["tokens"], [None, text])
    segments = tf.ensure_shape(rows["segments"], [None, text])
    real = segments > 0
    count = tf.reduce_sum(tf.cast(real, tf.int32), axis=1)
    noise, spans = tf.unstack(tf.gather(table, count), axis=1)
    split = free_ends if spec.free_ends else parts
    kept = split(keys, _KEPT, count - noise, spans, text, most)
    taken = parts(keys, _NOISE, noise, spans, text, most)
    hidden = mask(kept, taken, text) & real

    def side(shown, length):
      ids, size = marked(tokens, hidden, shown, sentinels, pad, length)
      return _sides.closed(ids, size, eos, count > 0)

    return _sides.features(
      *side(~hidden & real, length),
      *side(hidden, target),
      start=start,
      pad=pad,
    )

  return apply


def parts(keys, stream, total, count, longest: int, most: int):
  """A number split into positive parts, uniformly over all ways to do so.

  Args:
    keys: of the rows.
    stream: of random numbers.
    total: int32 [batch], what is split.
    count: int32 [batch], into how many parts.
    longest: the largest total.
    most: the largest count.

  Returns:
    int32 [batch, most + 1], where the parts begin and end; those behind the
    last are empty.
  """
  total, count = total[:, None], count[:, None]
  places = tf.range(longest)[None, :]
  ranks = _threefry.ranks(keys, stream, longest)
  # A cut lies in front of one of the places 1 .. total - 1.
  free = (places > 0) & (places < total)
  _, order = tf.math.top_k(tf.where(free, ranks, -1), k=most - 1)
  wanted = tf.range(most - 1)[None, :] < count - 1
  cuts = tf.sort(tf.where(wanted, order, total), axis=1)
  return tf.concat([tf.zeros_like(total), cuts, total], axis=1)


def free_ends(keys, stream, total, count, longest: int, most: int):
  """Like `parts`, for texts that may begin or end with a span.

  Uniform over all ways to lay the kept tokens around `count` spans: one part
  more than spans, of which the first and the last may be empty.
  """
  borders = parts(keys, stream, total + 2, count + 1, longest + 2, most + 1)
  return tf.concat([borders[:, :1], borders[:, 1 : most + 1] - 1], axis=1)


def mask(kept, taken, length: int):
  """bool [batch, length]: kept and taken parts in turn, kept ones first.

  Args:
    kept, taken: int32 [batch, parts + 1], borders as `parts` gives them.
    length: of the mask.
  """
  first = kept[:, 1:] + taken[:, :-1]
  stop = kept[:, 1:] + taken[:, 1:]
  here = tf.range(length)[None, :, None]
  inside = (here >= first[:, None, :]) & (here < stop[:, None, :])
  return tf.reduce_any(inside, axis=2)


def marked(tokens, hidden, shown, sentinels, pad: int, length: int):
  """The tokens shown, and a sentinel where each run of hidden ones begins.

  Returns:
    ids int32 [batch, length] and their number, int32 [batch].
  """
  before = tf.pad(hidden[:, :-1], [[0, 0], [1, 0]])
  opens = hidden & ~before
  turn = tf.cumsum(tf.cast(opens, tf.int32), axis=1) - 1
  marks = tf.gather(sentinels, tf.maximum(turn, 0))
  # Each place of the text is two: room for a sentinel, and the token.
  flat = [tf.shape(tokens)[0], 2 * tokens.shape[1]]
  values = tf.reshape(tf.stack([marks, tokens], axis=2), flat)
  stays = tf.reshape(tf.stack([opens, shown], axis=2), flat)
  return _sides.compact(values, stays, length, pad)
