"""Copies of a row that hide disjoint parts of it.

Wettig et al., arXiv:2202.08005, section 5. With a permutation of the tokens,
copy i hides the tokens i * share .. (i + 1) * share of it, up to how many are
predicted in all. A unit is never cut: each copy selects among what those
before it left.
"""

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _threefry

_COPY = 1 << 31  # a word that no stream has


def part(masking, rows, unit, copy, hide, tell, keys, copies: int):
  """What each copy hides and how much of it is predicted.

  Args:
    masking: a `masking.Masking` that predicts more than it hides.
    rows: `_selectors.Rows`.
    unit: `_selectors.Unit`.
    copy: int32 [batch], from 0.
    hide, tell: int32 [batch], tokens to hide and to predict at the rates.
    keys: of the rows, the same for all copies of a row.
    copies: how many there are.

  Returns:
    selected, bool [batch, length], and int32 [batch], how many of these are
    predicted.
  """
  # Where rounding hides too few in a short row, one token more.
  share = tf.maximum(tf.maximum(hide, -(-tell // copies)), 1)
  total = -(-tell // share) * share if masking.fill_last else tell
  size = lambda whole, i: tf.clip_by_value(whole - i * share, 0, share)
  told = size(tell, copy)
  if unit.select is None:
    chosen = _slice(rows, copy * share, size(total, copy))
    return chosen & rows.selectable, told

  def more(turn, used, chosen):
    del used, chosen
    return turn <= tf.reduce_max(copy)

  def add(turn, used, chosen):
    free = rows.selectable & ~used
    drawn = keys_of(keys, tf.fill(tf.shape(copy), turn))
    picked = unit.select(rows, free, size(total, turn), drawn)
    chosen |= picked & (copy == turn)[:, None]
    return turn + 1, used | picked, chosen

  none = tf.zeros_like(rows.selectable)
  _, _, chosen = tf.while_loop(more, add, (tf.constant(0), none, none))
  return chosen, told


def keys_of(keys, copy):
  """Keys of a copy's own draws; those of the first are the row's."""
  word = tf.cast(copy, tf.uint32)
  other = _threefry.threefry(*keys, word, tf.constant(_COPY, tf.uint32))
  first = copy == 0
  return tuple(tf.where(first, a, b) for a, b in zip(keys, other))


def _slice(rows, first, size):
  """The tokens that come `first` .. `first + size` in the order of ranks."""
  length = rows.ranks.shape[1]
  ranks = tf.where(rows.selectable, rows.ranks, -1)
  _, order = tf.math.top_k(ranks, k=length)
  place = tf.argsort(order, axis=1)
  return (place >= first[:, None]) & (place < (first + size)[:, None])
