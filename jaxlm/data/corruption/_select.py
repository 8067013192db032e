"""Selectors: which tokens a row gives up. Exact counts, no loops over tokens.

`ranks`, int32 [batch, length], order tokens at random; `count`, int32 [batch],
is how many to select. Uniform selection needs no code: it takes the highest
ranks. Words and spans lie inside one segment and hold no special token.
"""

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _rows

_LAST = 2**31 - 1


def whole_word(selectable, starts, ranks, count):
  """Whole words in random order while they fit: at most `count` tokens.

  As BERT's builder does, a word that would exceed the count is passed over.
  Not one word at a time: all words before the first that does not fit are
  taken at once, and no word longer than the room left can ever be taken, so
  few turns are needed.
  """
  length = selectable.shape[1]
  here = tf.broadcast_to(tf.range(length)[None, :], tf.shape(ranks))
  start = _rows.running_max(tf.where(starts, here, 0))
  sizes = word_sizes(selectable, starts)
  keys = tf.gather(ranks, start, batch_dims=1)  # one rank for a word
  _, order = tf.math.top_k(tf.where(selectable, keys, -1), k=length)
  size = tf.gather(sizes, order, batch_dims=1)
  to_end = size - 1 - tf.gather(here - start, order, batch_dims=1)
  open_ = tf.gather(selectable, order, batch_dims=1)

  def more(open_, chosen, room, progress):
    del open_, chosen, room
    return progress

  def take(open_, chosen, room, progress):
    del progress
    open_ &= size <= room[:, None]
    reach = tf.cumsum(tf.cast(open_, tf.int32), axis=1) + to_end
    taken = open_ & (reach <= room[:, None])
    room -= tf.reduce_sum(tf.cast(taken, tf.int32), axis=1)
    return open_ & ~taken, chosen | taken, room, tf.reduce_any(taken)

  _, chosen, _, _ = tf.while_loop(
    more,
    take,
    (open_, tf.zeros_like(open_), count, tf.constant(True)),
    maximum_iterations=length,
  )
  return _scatter(chosen, order)


def spans(selectable, starts, segments, ranks, lengths, count):
  """SpanBERT's spans of words: exactly `count` tokens.

  Joshi et al., arXiv:1907.10529. Until enough tokens are selected: an anchor
  uniform over the tokens not selected yet (which is what redrawing the ones
  already selected comes to), from the start of its word as many words to the
  right as drawn; stops at the segment's end or a special token, and the last
  span where the count is reached.

  Args:
    selectable, starts, segments, ranks: [batch, length]; the first token not
      selected in the order of ranks is the next anchor.
    lengths: int32 [batch, turns], words of each span; turns >= count.
    count: int32 [batch].
  """
  word = tf.cumsum(tf.cast(starts, tf.int32), axis=1)
  run = tf.cumsum(tf.cast(run_starts(selectable, segments), tf.int32), axis=1)

  def more(turn, turns, found):
    del turn, turns
    return tf.reduce_any(found < count)

  def add(turn, turns, found):
    free = selectable & (turns == _LAST)
    anchor = tf.argmax(tf.where(free, ranks, -1), axis=1)[:, None]
    first = tf.gather(word, anchor, batch_dims=1)
    covered = (
      free
      & (word >= first)
      & (word < first + lengths[:, turn][:, None])
      & (run == tf.gather(run, anchor, batch_dims=1))
      & (found < count)[:, None]
    )
    turns = tf.where(covered, turn, turns)
    found += tf.reduce_sum(tf.cast(covered, tf.int32), axis=1)
    return turn + 1, turns, found

  never = tf.fill(tf.shape(ranks), _LAST)
  _, turns, found = tf.while_loop(
    more,
    add,
    (tf.constant(0), never, tf.zeros_like(count)),
    maximum_iterations=lengths.shape[1],
  )
  # Only the last turn can overshoot; it gives back tokens from its right.
  last = tf.reduce_max(tf.where(turns == _LAST, -1, turns), axis=1)
  of_last = turns == last[:, None]
  size = tf.reduce_sum(tf.cast(of_last, tf.int32), axis=1)
  kept = size - (found - count)
  place = tf.cumsum(tf.cast(of_last, tf.int32), axis=1)
  chosen = (turns < _LAST) & (~of_last | (place <= kept[:, None]))
  return chosen


def ngrams(rows, sizes, places, window: int):
  """DeBERTa's n-grams of words, one in each window from left to right.

  He et al., arXiv:2006.03654 and its released code: a window holds `window`
  words for each word of its n-gram, which lies anywhere in it. An n-gram ends
  with its segment.

  Args:
    rows: `_selectors.Rows`.
    sizes: int32 [batch, turns], words of each n-gram.
    places: float32 [batch, turns], where in its window it lies, on [0, 1).
    window: windows hold so many words for each word of their n-gram.

  Returns:
    bool [batch, length]; how many are marked is left to chance.
  """
  starts = tf.cast(rows.starts, tf.int32)
  word = tf.cumsum(starts, axis=1) - 1
  words = tf.reduce_sum(starts, axis=1)
  run = tf.cumsum(
    tf.cast(run_starts(rows.selectable, rows.segments), tf.int32), axis=1
  )

  def more(turn, offset, marked):
    del turn, marked
    return tf.reduce_any(offset < words)

  def add(turn, offset, marked):
    room = tf.minimum(sizes[:, turn] * window, words - offset)
    place = tf.cast(places[:, turn] * tf.cast(room, tf.float32), tf.int32)
    first = offset + tf.minimum(place, room - 1)  # a product may round up
    last = first + sizes[:, turn]
    at_first = rows.starts & (word == first[:, None])
    here = tf.reduce_sum(tf.where(at_first, run, 0), axis=1)
    inside = (word >= first[:, None]) & (word < last[:, None])
    inside &= rows.selectable & (run == here[:, None])
    open_ = (offset < words)[:, None]
    return turn + 1, tf.maximum(offset + room, last), marked | inside & open_

  start = (tf.constant(0), tf.zeros_like(words), tf.zeros_like(rows.starts))
  turns = sizes.shape[1]
  return tf.while_loop(more, add, start, maximum_iterations=turns)[2]


def from_the_left(chosen, starts, count):
  """The first of the chosen words that `count` tokens have room for.

  The released code of `ngrams` stops behind the word that reaches the count;
  here it is left out, so that a row never has more.
  """
  length = chosen.shape[1]
  reach = tf.cumsum(tf.cast(chosen, tf.int32), axis=1)
  here = tf.broadcast_to(tf.range(length)[None, :], tf.shape(reach))
  start = _rows.running_max(tf.where(starts, here, 0))
  before = tf.gather(reach, start, batch_dims=1)  # with the word's first token
  return chosen & (before - 1 + word_sizes(chosen, starts) <= count[:, None])


def run_starts(selectable, segments):
  """Where stretches of selectable tokens of one segment begin."""
  before = tf.pad(selectable[:, :-1], [[0, 0], [1, 0]])
  return selectable & (~before | _rows.changes(segments))


def word_sizes(selectable, starts):
  """int32 [batch, length]: tokens of the word that a token belongs to."""
  batch, length = tf.shape(starts)[0], starts.shape[1]
  word = tf.cumsum(tf.cast(starts, tf.int32), axis=1)  # 0: before any word
  word += tf.range(batch)[:, None] * (length + 1)
  sizes = tf.math.unsorted_segment_sum(
    tf.cast(selectable, tf.int32), word, batch * (length + 1)
  )
  return tf.gather(sizes, word)


def _scatter(chosen, order):
  """Marks places: out[b, order[b, i]] = chosen[b, i], for permutations."""
  shape = tf.shape(order)
  row = tf.range(shape[0])[:, None] * shape[1]
  flat = tf.scatter_nd(
    tf.reshape(row + order, [-1, 1]),
    tf.reshape(tf.cast(chosen, tf.int32), [-1]),
    [shape[0] * shape[1]],
  )
  return tf.reshape(flat, shape) > 0
