"""Random numbers by counter, in TensorFlow ops.

TensorFlow's own stateless ops take one seed for a whole tensor, so a row's
numbers would depend on its place in the batch; here each row has a key of its
own and the work is still one op for all rows.
"""

from jaxlm.data import _counter
from jaxlm.data._tensorflow import tf


def threefry(k0, k1, x0, x1):
  """Threefry-2x32 of uint32 tensors that broadcast: two uint32 tensors."""
  return _counter.threefry(k0, k1, x0, x1, rotate=_rotate)


def row_keys(seed, rows, epochs):
  """The key of each row: two uint32 [batch].

  Args:
    seed: int64 scalar tensor.
    rows: int64 [batch], row numbers below 2**32.
    epochs: int64 [batch], visits below 2**32.
  """
  low = tf.cast(seed & 0xFFFFFFFF, tf.uint32)
  high = tf.cast(tf.bitwise.right_shift(seed, 32) & 0xFFFFFFFF, tf.uint32)
  return threefry(
    high, low, tf.cast(rows, tf.uint32), tf.cast(epochs, tf.uint32)
  )


def bits(keys, stream: int, count: int):
  """uint32 [batch, count] of uniform bits; streams are independent."""
  k0, k1 = keys
  counters = tf.range((count + 1) // 2, dtype=tf.int32)
  x0, x1 = threefry(
    k0[:, None],
    k1[:, None],
    tf.cast(counters, tf.uint32)[None, :],
    _word(stream),
  )
  return tf.concat([x0, x1], axis=1)[:, :count]


def ranks(keys, stream: int, count: int):
  """int32 [batch, count], uniform on 0..2**31 - 1: keys to sort by."""
  return tf.cast(tf.bitwise.right_shift(bits(keys, stream, count), 1), tf.int32)


def uniform(keys, stream: int, count: int):
  """float32 [batch, count], uniform on [0, 1), multiples of 2**-24."""
  words = tf.bitwise.right_shift(bits(keys, stream, count), 8)
  return tf.cast(words, tf.float32) * 2.0**-24


def below(keys, stream: int, count: int, bound: int):
  """int32 [batch, count], uniform on 0..bound - 1, off by under 2**-32."""
  words = tf.cast(bits(keys, stream, count), tf.int64)
  return tf.cast(tf.bitwise.right_shift(words * bound, 32), tf.int32)


def _word(value: int):
  return tf.constant(value, tf.uint32)


def _rotate(x, by: int):
  left = tf.bitwise.left_shift(x, _word(by))
  return left | tf.bitwise.right_shift(x, _word(32 - by))
