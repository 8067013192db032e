"""PMI masking's units in TensorFlow ops: where runs of words begin.

Levine et al., arXiv:2010.01825. All runs of the vocabulary are found in a row
at once. One inside another gives way to the larger; of those that overlap one
is chosen by chance, anew at every visit; other words are units of their own.
"""

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _pmi_table, _rows, _select, _threefry


def bind(path, tokenizer, stream: int):
  """`(tokens, segments, selectable, keys) -> bool [batch, length]`.

  Args:
    path: of the vocabulary.
    tokenizer: of the rows.
    stream: of the random numbers that settle overlaps.
  """
  table = _pmi_table.read(path, tokenizer)
  begins, ends = tf.constant(table.begins), tf.constant(table.ends)

  def starts(tokens, segments, selectable, keys):
    after = tf.pad(tf.gather(ends, tokens)[:, :-1], [[0, 0], [1, 0]])
    begin = tf.gather(begins, tokens) | after
    words = _rows.units(selectable, begin, segments)
    sizes = _found(table, tokens, segments, selectable, words)
    sizes = _largest(sizes)
    ranks = _threefry.ranks(keys, stream, tokens.shape[1])
    inside = settled(sizes, ranks, max(table.sizes))
    word = tf.maximum(tf.cumsum(tf.cast(words, tf.int32), axis=1) - 1, 0)
    return words & ~tf.gather(inside, word, batch_dims=1)

  return starts


def _found(table, tokens, segments, selectable, words):
  """int32 [batch, length]: words of the largest run that word k begins."""
  length = tokens.shape[1]
  here = tf.range(length)[None, :]
  place = tf.sort(tf.where(words, here, length), axis=1)  # of word k
  there = tf.minimum(place, length - 1)
  real = place < length
  pick = lambda x: tf.gather(x, there, batch_dims=1)
  stretch = tf.cumsum(
    tf.cast(_select.run_starts(selectable, segments), tf.int32), axis=1
  )
  stretch = tf.where(real, pick(stretch), -here - 1)
  end = there + pick(_select.word_sizes(selectable, words))
  values = tf.gather(tf.constant(table.values), tokens)
  reach = tf.cumsum(values * _pmi_table.powers(length), axis=1)
  reach = tf.pad(reach, [[0, 0], [1, 0]])  # of the tokens before each place
  unmove = tf.gather(_pmi_table.powers(length, inverse=True), there)
  sizes = tf.zeros_like(place)
  for size in table.sizes:
    if size > length:
      break
    whole = real & (_ahead(stretch, size - 1) == stretch)
    stop = tf.where(whole, _ahead(end, size - 1), there)
    sums = tf.gather(reach, stop, batch_dims=1) - pick(reach[:, :-1])
    whole &= _contains(table.hashes, sums * unmove)
    sizes = tf.where(whole, size, sizes)
  return sizes


def _ahead(x, steps: int):
  """What stands so many words further on; 0, of no stretch, behind the row."""
  return tf.pad(x[:, steps:], [[0, 0], [0, steps]])


def _contains(hashes, values):
  """Which values are among the sorted hashes."""
  flat = tf.reshape(values, [-1])
  place = tf.minimum(tf.searchsorted(hashes, flat), len(hashes) - 1)
  return tf.reshape(tf.gather(hashes, place) == flat, tf.shape(values))


def _largest(sizes):
  """Sizes without the runs that lie inside another."""
  here = tf.range(sizes.shape[1])[None, :]
  reach = tf.where(sizes > 0, here + sizes, 0)
  before = _rows.running_max(tf.pad(reach[:, :-1], [[0, 0], [1, 0]]))
  return tf.where(reach > before, sizes, 0)


def settled(sizes, ranks, longest: int):
  """Which words lie inside a chosen run, behind its first, bool.

  Runs are chosen in the order of ranks, each unless it overlaps one before
  it. Those that are first among all that they overlap are chosen at once, so
  that few turns are needed.

  Args:
    sizes: int32 [batch, words], of the run that a word begins, 0 for none.
    ranks: int32 [batch, words].
    longest: the largest size.
  """
  words = sizes.shape[1]
  order = tf.cast(ranks, tf.int64) * words + np.arange(words)  # no ties
  steps = range(min(longest, words))

  def forward(x, step):  # what began `step` words before
    return tf.pad(x[:, : words - step], [[0, 0], [step, 0]])

  def back(x, step):
    return tf.pad(x[:, step:], [[0, 0], [0, step]])

  def covered(runs):
    """How many of the runs a word lies in."""
    return sum(
      tf.cast(forward(runs & (sizes > step), step), tf.int32) for step in steps
    )

  def more(left, chosen):
    del chosen
    return tf.reduce_any(left)

  def choose(left, chosen):
    rank = tf.where(left, order, -1)
    tops = [
      forward(tf.where(sizes > step, rank, -1) + 1, step) - 1 for step in steps
    ]
    top = tf.reduce_max(tf.stack(tops), axis=0)
    over = [tf.where(sizes > step, back(top, step), -1) for step in steps]
    taken = left & (rank == tf.reduce_max(tf.stack(over), axis=0))
    busy = covered(taken) > 0
    met = [(sizes > step) & back(busy, step) for step in steps]
    met = tf.reduce_any(tf.stack(met), axis=0)
    return left & ~met, chosen | taken

  start = (sizes > 0, tf.zeros_like(sizes, tf.bool))
  _, chosen = tf.while_loop(more, choose, start, maximum_iterations=words)
  return (covered(chosen) > 0) & ~chosen
