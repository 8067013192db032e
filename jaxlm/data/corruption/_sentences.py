"""Sentences in another order, in TensorFlow ops (BART)."""

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _counts, _rows
from jaxlm.errors import UserError

_CLOSING = "\"'”’»)]}”’」』）"  # may stand behind the end of a sentence


def permuter(spec, tokenizer, length: int):
  """`permute(tokens, real, ranks) -> tokens` of an `Infilling`."""
  if not spec.permute:
    return None
  stops = tf.constant(stop_tokens(tokenizer, spec.stops))
  special = tf.constant(np.asarray(tokenizer.is_special, bool))
  table = tf.constant(_counts.table(spec.permute, length, "ceil"))

  def permute(tokens, real, ranks):
    fixed = tf.gather(special, tokens) | ~real
    return permuted(tokens, fixed, tf.gather(stops, tokens), table, ranks)

  return permute


def stop_tokens(tokenizer, stops: str) -> np.ndarray:
  """bool [vocab]: tokens that close a sentence.

  Raises:
    UserError: there is none.
  """
  found = np.zeros(tokenizer.vocab_size, bool)
  for index in tokenizer.random_pool:
    text = tokenizer.decode([index]).strip().rstrip(_CLOSING)
    found[index] = text.endswith(tuple(stops))
  if not found.any():
    raise UserError(
      f"data.corruption.permute is set, and no token ends in one of '{stops}', "
      "data.corruption.stops: no sentence would be found."
    )
  return found


def permuted(tokens, fixed, stops, table, ranks):
  """Texts with sentences in another order; fixed tokens stay in their places.

  A sentence ends behind the first of a run of stops, as in fairseq, and in
  front of a fixed token; it stays between the fixed tokens around it.

  Args:
    tokens: int32 [batch, length].
    fixed: bool [batch, length], special tokens and padding.
    stops: bool [batch, length].
    table: int32 [length + 1], how many of n sentences change places.
    ranks: int32 [batch, length], which order sentences at random.
  """
  length = tokens.shape[1]
  earlier = lambda x: tf.pad(x[:, :-1], [[0, 0], [1, 0]])
  ends = stops & ~earlier(stops)
  opens = earlier(ends) | fixed | earlier(fixed)
  opens |= (tf.range(length) == 0)[None, :]
  sentence = opens & ~fixed
  wanted = tf.gather(table, tf.reduce_sum(tf.cast(sentence, tf.int32), 1))
  slot = _slots(sentence, fixed, ranks, wanted[:, None])
  here = tf.broadcast_to(tf.range(length)[None, :], tf.shape(tokens))
  start = _rows.running_max(tf.where(opens, here, 0))
  place = tf.gather(slot, start, batch_dims=1) * length + here - start
  return tf.gather(tokens, tf.argsort(place, axis=1), batch_dims=1)


def _slots(sentence, fixed, ranks, wanted):
  """int32 [batch, length]: where the unit that begins at a place goes.

  Places tell the order of units alone.
  """
  batch, length = tf.shape(sentence)[0], sentence.shape[1]
  here = tf.range(length)[None, :]
  _, drawn = tf.math.top_k(tf.where(sentence, ranks, -1), k=length)
  chosen = here < wanted
  # Sorted, the chosen are the slots; in the order drawn, document by document,
  # they are what goes there.
  slots = tf.sort(tf.where(chosen, drawn, length), axis=1)
  group = tf.gather(
    tf.cumsum(tf.cast(fixed, tf.int32), axis=1), drawn, batch_dims=1
  )
  order = tf.argsort(tf.where(chosen, group, length + 1), axis=1, stable=True)
  sources = tf.gather(tf.where(chosen, drawn, length), order, batch_dims=1)
  row = tf.range(batch)[:, None] * (length + 1)
  flat = tf.reshape(tf.tile(tf.range(length + 1)[None, :], [batch, 1]), [-1])
  flat = tf.tensor_scatter_nd_update(
    flat, tf.reshape(row + sources, [-1, 1]), tf.reshape(slots, [-1])
  )
  return tf.reshape(flat, [batch, length + 1])[:, :length]
