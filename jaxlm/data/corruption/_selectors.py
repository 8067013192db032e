"""What a unit of masking does: which tokens go together, and are taken."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _pmi as _pmi_units
from jaxlm.data.corruption import _rows, _select, _threefry, _units

# Streams of random numbers of a row; each is used once.
RANKS, MIX, REPLACEMENTS, LENGTHS, ROUNDING, PLACES, OVERLAPS = range(7)


class Rows(NamedTuple):
  """Rows as selectors see them, each [batch, length].

  Attributes:
    segments: int32.
    selectable: bool, tokens that may be hidden.
    starts: bool, where units begin.
    ranks: int32, the order of tokens at random.
  """

  segments: Any
  selectable: Any
  starts: Any
  ranks: Any


class Unit(NamedTuple):
  """What a kind of unit does.

  Attributes:
    select: (rows, free, count, keys) -> bool [batch, length], up to `count`
      of the free tokens; None: any, those of the highest ranks.
    starts: (tokens, segments, selectable, keys) -> bool [batch, length], where
      units begin.
    together: rows -> int32 [batch, length]; hidden neighbours of one number
      are replaced alike. None: each token for itself.
  """

  select: Callable | None
  starts: Callable
  together: Callable | None = None


def bind(masking, tokenizer, turns: int) -> Unit:
  """The unit of a `masking.Masking`.

  Args:
    masking: the corruption.
    tokenizer: tells where words begin.
    turns: the most tokens that are selected.
  """
  return _KINDS[masking.unit["kind"]](masking, tokenizer, turns)


def words(tokenizer) -> Callable:
  """Units that are words."""
  table = tf.constant(np.asarray(tokenizer.word_starts, bool))

  def starts(tokens, segments, selectable, keys):
    del keys
    return _rows.units(selectable, tf.gather(table, tokens), segments)

  return starts


def _uniform(masking, tokenizer, turns) -> Unit:
  del masking, turns
  return Unit(None, words(tokenizer))


def _whole_word(masking, tokenizer, turns) -> Unit:
  del masking, turns

  def select(rows, free, count, keys):
    del keys
    return _select.whole_word(free, rows.starts, rows.ranks, count)

  return Unit(select, words(tokenizer))


def _span(masking, tokenizer, turns) -> Unit:
  fields = {k: v for k, v in masking.unit.items() if k != "kind"}
  chances = _units.span_lengths(**fields)

  def select(rows, free, count, keys):
    lengths = _drawn(_threefry.uniform(keys, LENGTHS, turns), chances)
    return _select.spans(
      free, rows.starts, rows.segments, rows.ranks, lengths, count
    )

  return Unit(select, words(tokenizer), lambda rows: rows.segments)


def _ngram(masking, tokenizer, turns) -> Unit:
  del turns
  chances = _units.ngram_lengths(masking.unit["longest"])
  window = int(1 / masking.rate)

  def select(rows, free, count, keys):
    most = -(-rows.ranks.shape[1] // window)
    sizes = _drawn(_threefry.uniform(keys, LENGTHS, most), chances)
    places = _threefry.uniform(keys, PLACES, most)
    left = rows._replace(selectable=free, starts=rows.starts & free)
    chosen = _select.ngrams(left, sizes, places, window)
    return _select.from_the_left(chosen, left.starts, count)

  return Unit(select, words(tokenizer))


def _pmi(masking, tokenizer, turns) -> Unit:
  starts = _pmi_units.bind(masking.unit["vocabulary"], tokenizer, OVERLAPS)
  number = lambda rows: tf.cumsum(tf.cast(rows.starts, tf.int32), axis=1)
  return _whole_word(masking, tokenizer, turns)._replace(
    starts=starts, together=number
  )


def _drawn(draws, chances):
  """int32, 1 + the index that each draw of [0, 1) falls on."""
  below = tf.constant(chances.cumsum()[:-1].astype(np.float32))
  return 1 + tf.reduce_sum(tf.cast(draws[..., None] >= below, tf.int32), -1)


_KINDS = {
  "uniform": _uniform,
  "whole_word": _whole_word,
  "span": _span,
  "ngram": _ngram,
  "pmi": _pmi,
}
