"""Tokens put into a text, and texts turned around, in TensorFlow ops."""

from typing import Any, NamedTuple

from jaxlm.data._tensorflow import tf


class Ends(NamedTuple):
  """Whether the first and the last token of each text is special.

  Attributes:
    front, back: int32 [batch, 1], 0 or 1.
  """

  front: Any
  back: Any

  @classmethod
  def of(cls, tokens, real, ordinary) -> "Ends":
    """Of texts; `ordinary`, bool [vocab], tells tokens of text."""
    count = tf.reduce_sum(tf.cast(real, tf.int32), axis=1, keepdims=True)
    last = tf.gather(tokens, tf.maximum(count - 1, 0), batch_dims=1)
    special = lambda x: tf.cast(~tf.gather(ordinary, x), tf.int32)
    return cls(special(tokens[:, :1]), special(last))


def inserted(ids, count, ends, inserts, noise, ranks):
  """Texts with tokens at random places between their special ends.

  As in fairseq, the places in the result are uniform over all subsets.

  Args:
    ids: int32 [batch, length], padded behind.
    count: int32 [batch], real tokens.
    ends: of the texts.
    inserts: int32 [batch], how many, which must fit.
    noise: int32 [batch, length], what is put in.
    ranks: int32 [batch, length], which order places at random.

  Returns:
    ids and count of the new texts.
  """
  length = ids.shape[1]
  here = tf.range(length)[None, :]
  size = (count + inserts)[:, None]
  open_ = (here >= ends.front) & (here < size - ends.back)
  order = tf.argsort(
    tf.where(open_, ranks, -1), axis=1, direction="DESCENDING", stable=True
  )
  turn = tf.argsort(order, axis=1)  # place of each place in that order
  put = open_ & (turn < inserts[:, None])
  source = here - tf.cumsum(tf.cast(put, tf.int32), axis=1)
  moved = tf.gather(ids, tf.maximum(source, 0), batch_dims=1)
  return tf.where(put, noise, moved), count + inserts


def rotated(ids, count, ends, draws, share: float):
  """Texts that begin anywhere, for a share of the rows.

  Args:
    ids, count, ends: as of `inserted`.
    draws: float32 [batch, 2], uniform.
    share: of rows that are turned.
  """
  here = tf.range(ids.shape[1])[None, :]
  body = count[:, None] - ends.front - ends.back
  first = tf.cast(draws[:, 1:] * tf.cast(body, tf.float32), tf.int32)
  place = ends.front + (here - ends.front + first) % tf.maximum(body, 1)
  inside = (here >= ends.front) & (here < ends.front + body)
  turned = tf.gather(ids, tf.where(inside, place, here), batch_dims=1)
  return tf.where(draws[:, :1] < share, turned, ids)
