"""Mixtures in TensorFlow ops: what `Mixture` binds to a tokenizer."""

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _rows, _threefry

_CHOICE, _WINDOW, _KEYS = range(3)  # streams of random numbers of a row
# Padded by the pad token.
_IDS = ("inputs", "corrupted_inputs", "decoder_inputs", "targets")


def bind(parts, *, widths, prefixes, rates, features, pad):
  """`apply(rows, keys) -> features`; see `jaxlm.data.corruption`.

  Each part works on its own rows alone, so a mixture costs what one part does.

  Args:
    parts: what each corruption binds.
    widths: tokens of text that each takes.
    prefixes: id in front of each one's inputs, or None.
    rates: relative.
    features: key -> (shape of a row, dtype name) of what comes out.
    pad: id of padding.
  """
  width, borders = max(widths), _borders(rates)

  def apply(rows, keys):
    choice = chosen(keys, borders)
    places, found = [], []
    for i, part in enumerate(parts):
      place = tf.where(choice == i)[:, 0]
      mine = {k: tf.gather(v, place) for k, v in rows.items()}
      own = [tf.gather(word, place) for word in keys]
      mine = window(mine, own, width, widths[i])
      out = part(mine, folded(own, i))
      if prefixes[i] is not None:
        out = prefixed(out, prefixes[i], pad)
      places.append(tf.cast(place, tf.int32))
      found.append(_padded(out, features, pad))
    out = {k: _together(places, [f[k] for f in found]) for k in found[0]}
    # A mixture of parts without rows tells no shape.
    return {
      k: tf.ensure_shape(v, [None, *features[k][0]]) if k in features else v
      for k, v in out.items()
    }

  return apply


def taken(takes, *, widths, rates):
  """`take(text, keys)`: the windows that the parts get, padded behind.

  Args:
    takes: what each part takes of its window.
    widths, rates: as of `bind`.
  """
  width, borders = max(widths), _borders(rates)

  def apply(text, keys):
    choice = chosen(keys, borders)[:, None]
    found = {k: tf.zeros_like(v) for k, v in text.items()}
    for i, take in enumerate(takes):
      own = take(window(text, keys, width, widths[i]), folded(keys, i))
      behind = [[0, 0], [0, width - widths[i]]]
      for k, v in own.items():
        found[k] = tf.where(choice == i, tf.pad(v, behind), found[k])
    return found

  return apply


def _borders(rates) -> np.ndarray:
  """Cumulated rates, but for the last, float32."""
  return (np.cumsum(rates) / np.sum(rates))[:-1].astype(np.float32)


def chosen(keys, borders):
  """int32 [batch]: the part of each row; borders are cumulated rates."""
  draw = _threefry.uniform(keys, _CHOICE, 1)
  return tf.reduce_sum(tf.cast(draw >= borders[None, :], tf.int32), axis=1)


def folded(keys, index: int):
  """Keys of a part, whose streams are its own."""
  k0, k1 = keys
  counter = tf.constant(index, tf.uint32)
  return _threefry.threefry(k0, k1, counter, tf.constant(_KEYS, tf.uint32))


def window(rows, keys, width: int, size: int):
  """`size` neighbours of each row's `width` tokens, from anywhere in its text.

  Args:
    rows: int32 tensors of a batch.
    keys: of the rows.
    width: of `tokens`, `segments` and whatever has as many places.
    size: of the window.
  """
  if size == width:
    return rows
  real = tf.reduce_sum(tf.cast(rows["segments"] > 0, tf.int32), axis=1)
  ways = tf.maximum(real - size, 0) + 1
  first = _threefry.below(keys, _WINDOW, 1, tf.cast(ways, tf.int64)[:, None])
  places = first + tf.range(size)[None, :]
  return {
    k: tf.gather(v, places, batch_dims=1) if v.shape[1] == width else v
    for k, v in rows.items()
  }


def prefixed(out, prefix: int, pad: int):
  """The features with a token in front of the inputs of each real row."""
  segments = out["segments"]
  here = segments[:, :1]
  first = tf.where(here > 0, prefix, pad)
  segments = tf.concat([here, segments], axis=1)
  return out | {
    "inputs": tf.concat([first, out["inputs"]], axis=1),
    "segments": segments,
    "positions": _rows.positions(segments),
  }


def _padded(out, features, pad):
  """Features filled up behind to the shapes that come out."""

  def fill(key, value):
    wanted = features.get(key, (value.shape[1:], None))[0]
    behind = [[0, w - h] for w, h in zip(wanted, value.shape[1:])]
    if not any(map(any, behind)):
      return value
    with_ = tf.cast(pad if key in _IDS else 0, value.dtype)
    return tf.pad(value, [[0, 0], *behind], constant_values=with_)

  return {key: fill(key, value) for key, value in out.items()}


def _together(places, values):
  """The rows of all parts, each in its place."""
  return tf.dynamic_stitch(places, values)
