"""The two sides of an encoder-decoder's row, in TensorFlow ops."""

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _rows


def compact(values, stays, length: int, pad: int):
  """The values that stay, moved to the left; what is too much is dropped.

  Args:
    values: int32 [batch, any].
    stays: bool, of the same shape.
    length: of the result.
    pad: fills the rest.

  Returns:
    ids int32 [batch, length] and how many stay, int32 [batch].
  """
  batch = tf.shape(values)[0]
  place = tf.cumsum(tf.cast(stays, tf.int32), axis=1)
  row = tf.range(batch)[:, None] * (length + 1)
  # What is left out goes to one place behind the row.
  where = row + tf.where(stays, tf.minimum(place - 1, length), length)
  flat = tf.fill([batch * (length + 1)], pad)
  flat = tf.tensor_scatter_nd_update(
    flat, tf.reshape(where, [-1, 1]), tf.reshape(values, [-1])
  )
  return tf.reshape(flat, [batch, length + 1])[:, :length], place[:, -1]


def closed(ids, count, eos: int, wanted):
  """EOS behind the ids of each row of `wanted`.

  Returns:
    ids and segments (1 at real tokens), int32 [batch, length].
  """
  size = (count + tf.cast(wanted, tf.int32))[:, None]
  here = tf.range(ids.shape[1])[None, :]
  ends = (here == size - 1) & wanted[:, None]
  return tf.where(ends, eos, ids), tf.cast(here < size, tf.int32)


def features(inputs, segments, targets, target_segments, *, start, pad):
  """The features of rows of one text; the decoder is one token behind.

  Args:
    inputs, segments: int32 [batch, length].
    targets, target_segments: int32 [batch, target length].
    start: id that the decoder reads first.
    pad: id of padding.
  """
  first = tf.fill([tf.shape(targets)[0], 1], start)
  before = tf.concat([first, targets[:, :-1]], axis=1)
  return {
    "inputs": inputs,
    "segments": segments,
    "positions": _rows.positions(segments),
    "decoder_inputs": tf.where(target_segments > 0, before, pad),
    "decoder_segments": target_segments,
    "decoder_positions": _rows.positions(target_segments),
    "targets": targets,
    "weights": tf.cast(target_segments, tf.float32),
  }
