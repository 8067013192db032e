"""BART's noise in TensorFlow ops: what `Infilling` binds to a tokenizer."""

from typing import Any, NamedTuple

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import (
  _counts,
  _gaps,
  _rows,
  _sentences,
  _sides,
  _threefry,
)

# Streams of random numbers of a row; each is used once.
_LENGTHS, _STARTS, _FATES, _TOKENS, _PLACES, _ORDER, _ROTATION = range(7)
_INSERTED_FATES, _INSERTED_TOKENS = 7, 8


class View(NamedTuple):
  """What an encoder reads: tokens to the left, their number, all padded.

  Attributes:
    ids: int32 [batch, length].
    count: int32 [batch], real tokens.
  """

  ids: Any
  count: Any


def bind(spec, tokenizer, length: int, start: int):
  """`apply(rows, keys) -> features`; see `jaxlm.data.corruption`."""
  pad = tokenizer.pad_id
  corrupt = corrupter(spec, tokenizer, length)

  def apply(rows, keys):
    view = corrupt(rows, keys)
    segments = tf.range(length)[None, :] < view.count[:, None]
    real = rows["segments"][:, :length] > 0
    return _sides.features(
      view.ids,
      tf.cast(segments, tf.int32),
      tf.where(real, rows["tokens"][:, :length], pad),
      tf.cast(real, tf.int32),
      start=start,
      pad=pad,
    )

  return apply


def corrupter(spec, tokenizer, length: int):
  """`corrupt(rows, keys) -> View` of an `Infilling`."""
  ordinary = tf.constant(_rows.ordinary_tokens(tokenizer))
  word_starts = tf.constant(np.asarray(tokenizer.word_starts, bool))
  budgets = _counts.table(spec.rate, length, "ceil")
  permute = _sentences.permuter(spec, tokenizer, length)
  masks = masker(spec, tokenizer)

  def corrupt(rows, keys):
    tokens = tf.ensure_shape(rows["tokens"][:, :length], [None, length])
    real = tf.ensure_shape(rows["segments"][:, :length], [None, length]) > 0
    if spec.permute:
      tokens = permute(tokens, real, _threefry.ranks(keys, _ORDER, length))
    words = tf.gather(ordinary, tokens) & real
    starts = words
    if spec.unit == "word":
      marks = tf.gather(word_starts, tokens)
      starts = _rows.units(words, marks, tf.cast(real, tf.int32))
    budget = tf.gather(budgets, tf.reduce_sum(tf.cast(starts, tf.int32), 1))
    lengths, inserts = spans(spec, keys, budget, int(budgets[-1]))
    sizes = laid(starts, lengths, _threefry.ranks(keys, _STARTS, length))
    hidden, opens = covered(words, starts, sizes)
    shown = {"one": opens, "none": opens & False, "each": hidden}[spec.replace]
    ids = tf.where(shown, masks(fates(keys, sizes), keys, _TOKENS), tokens)
    ids, count = _sides.compact(
      ids, real & (shown | ~hidden), length, tokenizer.pad_id
    )
    ends = _gaps.Ends.of(tokens, real, ordinary)
    own = _threefry.uniform(keys, _INSERTED_FATES, length)
    ids, count = _gaps.inserted(
      ids,
      count,
      ends,
      tf.minimum(inserts, length - count),
      masks(own, keys, _INSERTED_TOKENS),
      _threefry.ranks(keys, _PLACES, length),
    )
    if spec.rotate:
      draws = _threefry.uniform(keys, _ROTATION, 2)
      ids = _gaps.rotated(ids, count, ends, draws, spec.rotate)
    return View(ids, count)

  return corrupt


def spans(spec, keys, budget, most: int):
  """Lengths that make up the budget of each row.

  Args:
    spec: an `Infilling`.
    keys: of the rows.
    budget: int32 [batch], words to hide.
    most: the largest budget.

  Returns:
    int32 [batch, most], the lengths above 0 in the order drawn, then 0; and
    how many were 0, int32 [batch].
  """
  draws = most + 8  # fewer than most are 0: some more make up for them
  below = spec.span_lengths.cumsum()[:-1].astype(np.float32)
  drawn = _threefry.uniform(keys, _LENGTHS, draws)
  flat = tf.searchsorted(
    tf.constant(below), tf.reshape(drawn, [-1]), side="right"
  )
  total = tf.cumsum(tf.reshape(flat, tf.shape(drawn)), axis=1)
  budget = budget[:, None]
  # The last draw takes all that is left, which hardly ever comes to pass.
  last = tf.maximum(total[:, -1:], budget)
  total = tf.minimum(tf.concat([total[:, :-1], last], axis=1), budget)
  before = tf.pad(total[:, :-1], [[0, 0], [1, 0]])
  size = total - before
  lengths, _ = _sides.compact(size, size > 0, most, 0)
  nothing = (size == 0) & (before < budget)
  return lengths, tf.reduce_sum(tf.cast(nothing, tf.int32), axis=1)


def laid(starts, lengths, ranks):
  """int32 [batch, length]: the length of the span that begins at a place.

  Args:
    starts: bool [batch, length], first tokens of words.
    lengths: int32 [batch, most], as `spans` gives them.
    ranks: int32 [batch, length], which order words at random.
  """
  batch, length = tf.shape(starts)[0], starts.shape[1]
  _, places = tf.math.top_k(tf.where(starts, ranks, -1), k=lengths.shape[1])
  row = tf.range(batch)[:, None] * length
  flat = tf.scatter_nd(
    tf.reshape(row + places, [-1, 1]),
    tf.reshape(lengths, [-1]),
    [batch * length],
  )
  return tf.reshape(flat, [batch, length])


def covered(words, starts, sizes):
  """Which tokens spans hide, and where a run of them begins.

  Args:
    words: bool [batch, length], tokens that may be hidden.
    starts: bool [batch, length], first tokens of words.
    sizes: int32 [batch, length], words of the span that begins here, or 0.

  Returns:
    hidden and opens, bool [batch, length]; spans that run into each other
    open once, neighbours twice.
  """
  most = words.shape[1] + 1
  number = tf.cumsum(tf.cast(starts, tf.int32), axis=1)  # from 1
  # The last word in front of the next token that may not be hidden.
  wall = tf.where(words, 0, most - number)
  wall = most - tf.reverse(_rows.running_max(tf.reverse(wall, [1])), [1])
  last = tf.where(sizes > 0, tf.minimum(number + sizes - 1, wall), 0)
  reach = _rows.running_max(last)
  before = tf.pad(reach[:, :-1], [[0, 0], [1, 0]])
  hidden = words & (number <= reach) & (number > 0)
  return hidden, (sizes > 0) & (number > before)


def fates(keys, sizes):
  """float32 [batch, length], uniform, one number for all of a span."""
  length = sizes.shape[1]
  here = tf.range(length)[None, :]
  start = _rows.running_max(tf.where(sizes > 0, here, 0))
  drawn = _threefry.uniform(keys, _FATES, length)
  return tf.gather(drawn, start, batch_dims=1)


def masker(spec, tokenizer):
  """`masks(fates, keys, stream) -> ids`: masks, now and then other tokens."""
  mask = tokenizer.id_of("mask")
  pool = tf.constant(np.asarray(tokenizer.random_pool, np.int32))

  def masks(fates, keys, stream):
    if not spec.random:
      return tf.fill(tf.shape(fates), mask)
    drawn = _threefry.below(keys, stream, fates.shape[1], len(pool))
    return tf.where(fates < spec.random, tf.gather(pool, drawn), mask)

  return masks
