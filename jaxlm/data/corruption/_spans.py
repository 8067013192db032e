"""Span corruption in TensorFlow ops: what `SpanCorruption` binds."""

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _lengths, _rows, _threefry

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
  sentinels = tf.constant(np.asarray(sentinels, np.int32))

  def apply(rows, keys):
    tokens = tf.ensure_shape(rows["tokens"], [None, text])
    segments = tf.ensure_shape(rows["segments"], [None, text])
    real = segments > 0
    count = tf.reduce_sum(tf.cast(real, tf.int32), axis=1)
    noise, spans = tf.unstack(tf.gather(table, count), axis=1)
    most = int(table[:, 1].max())
    kept = parts(keys, _KEPT, count - noise, spans, text, most)
    taken = parts(keys, _NOISE, noise, spans, text, most)
    hidden = mask(kept, taken, text) & real
    shown = ~hidden & real
    inputs, source = _closed(tokens, hidden, shown, sentinels, eos, pad, length)
    targets, reals = _closed(tokens, shown, hidden, sentinels, eos, pad, target)
    first = tf.fill([tf.shape(targets)[0], 1], start)
    before = tf.concat([first, targets[:, :-1]], axis=1)
    return {
      "inputs": inputs,
      "segments": source,
      "positions": _rows.positions(source),
      "decoder_inputs": tf.where(reals > 0, before, pad),
      "decoder_segments": reals,
      "decoder_positions": _rows.positions(reals),
      "targets": targets,
      "weights": tf.cast(reals, tf.float32),
    }

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


def _closed(tokens, replaced, kept, sentinels, eos, pad, length: int):
  """Each run of `replaced` as one sentinel, then EOS, then padding.

  Returns:
    ids and segments, int32 [batch, length].
  """
  before = tf.pad(replaced[:, :-1], [[0, 0], [1, 0]])
  opens = replaced & ~before
  turn = tf.cumsum(tf.cast(opens, tf.int32), axis=1) - 1
  ids = tf.where(opens, tf.gather(sentinels, tf.maximum(turn, 0)), tokens)
  stays = kept | opens
  place = tf.cumsum(tf.cast(stays, tf.int32), axis=1)
  size = place[:, -1:] + tf.cast(place[:, -1:] > 0, tf.int32)
  batch = tf.shape(tokens)[0]
  row = tf.range(batch)[:, None] * (length + 1)
  # What is left out goes to one place behind the row.
  where = row + tf.where(stays, place - 1, length)
  flat = tf.fill([batch * (length + 1)], pad)
  flat = tf.tensor_scatter_nd_update(
    flat, tf.reshape(where, [-1, 1]), tf.reshape(ids, [-1])
  )
  ids = tf.reshape(flat, [batch, length + 1])[:, :length]
  here = tf.range(length)[None, :]
  ids = tf.where(here == size - 1, eos, ids)
  return ids, tf.cast(here < size, tf.int32)
