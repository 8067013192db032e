"""Prefix language modelling in TensorFlow ops: what `PrefixLM` binds."""

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _sides, _threefry

_PREFIX = 0  # stream of random numbers of a row


def bind(spec, *, length, eos, start, pad):
  """`apply(rows, keys) -> features`; see `jaxlm.data.corruption`.

  Args:
    spec: a `PrefixLM`.
    length: of the inputs.
    eos, start, pad: ids.
  """
  text, target = spec.text_length(length), spec.target_length(length)
  shortest = np.array([spec.shortest(n) for n in range(text + 1)], np.int32)

  def apply(rows, keys):
    tokens = tf.ensure_shape(rows["tokens"], [None, text])
    real = tf.ensure_shape(rows["segments"], [None, text]) > 0
    count = tf.reduce_sum(tf.cast(real, tf.int32), axis=1)
    least = tf.gather(shortest, count)
    ways = tf.maximum(count - least, 1)
    drawn = _threefry.below(keys, _PREFIX, 1, tf.cast(ways, tf.int64)[:, None])
    prefix = (tf.range(text)[None, :] < least[:, None] + drawn) & real

    def side(shown, length):
      ids, size = _sides.compact(tokens, shown, length, pad)
      return _sides.closed(ids, size, eos, count > 0)

    return _sides.features(
      *side(prefix, length),
      *side(real & ~prefix, target),
      start=start,
      pad=pad,
    )

  return apply
