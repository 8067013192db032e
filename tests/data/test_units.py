"""N-grams as DeBERTa's code takes them, and what surrounds hidden spans."""

import numpy as np
import pytest
import scipy.stats

from jaxlm.data.corruption import _units
from tests.data.test_corruption import (
  LENGTH,
  corrupt,
  rows_of,
  runs,
  span_rows,
  words_of,
)

HIDING = dict(kind="masking", mask=1.0, random=0.0, keep=0.0)


def windows_one_at_a_time(words, rate, longest, count, rng):
  """The released walk over words of one token each."""
  chances = _units.ngram_lengths(longest)
  marked, offset = np.zeros(words, bool), 0
  while offset < words:
    n = 1 + rng.choice(longest, p=chances)
    room = min(n * int(1 / rate), words - offset)
    first = offset + rng.integers(room)
    marked[first : first + n] = True
    offset = max(offset + room, min(first + n, words))
  marked[np.cumsum(marked) > count] = False
  return marked


def test_ngram_lengths_golden():
  assert _units.ngram_lengths(3) == pytest.approx([6 / 11, 3 / 11, 2 / 11])


def test_ngrams_are_debertas():
  spec = HIDING | dict(rate=0.15, count="total", unit=dict(kind="ngram"))
  hidden = corrupt(spec, span_rows(1500), length=42)["inputs"] == 4
  hidden = hidden[:, 1:-1]
  rng = np.random.default_rng(0)
  want = [windows_one_at_a_time(40, 0.15, 3, 6, rng) for _ in range(1500)]
  for measure in (
    lambda rows: np.bincount(np.concatenate([runs(r) for r in rows]))[1:7],
    lambda rows: np.sum(rows, axis=0),
    lambda rows: np.bincount(np.sum(rows, axis=1), minlength=7)[3:],
  ):
    tables = np.array([measure(hidden), measure(want)])
    tables = tables[:, tables.sum(axis=0) > 10]
    assert scipy.stats.chi2_contingency(tables).pvalue > 1e-4
  assert hidden.sum(axis=1).max() == 6


def test_ngrams_are_whole_words_of_one_document():
  rows = rows_of(100, LENGTH)
  spec = HIDING | dict(rate=0.3, unit=dict(kind="ngram"))
  hidden = corrupt(spec, rows)["inputs"] == 4
  longest = 0
  for r in range(100):
    words = words_of(rows["tokens"][r], rows["segments"][r])
    n = (words > 0).sum()
    assert hidden[r].sum() <= max(1, round(0.3 * n))
    assert not set(words[hidden[r]]) & set(words[~hidden[r]])
    longest = max(longest, len(set(words[hidden[r]])))
  assert longest > 1


def test_boundaries_by_hand():
  """[CLS] a b c d [SEP] | [CLS] e f [SEP], some of them hidden."""
  from jaxlm.data._tensorflow import tf
  from jaxlm.data.corruption import _boundaries, _selectors

  hidden = [0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0]
  segments = [1] * 8 + [2] * 4
  selectable = [0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0]
  as_rows = lambda x, kind: tf.cast(tf.constant([x]), kind)
  rows = _selectors.Rows(
    as_rows(segments, tf.int32), as_rows(selectable, tf.bool), None, None
  )
  out = _boundaries.features(
    as_rows(hidden, tf.bool),
    rows,
    tf.constant([[1, 3, 4, 6, 9, 0]]),
    tf.constant([[True] * 5 + [False]]),
    longest=20,
  )
  out = {k: v.numpy()[0].tolist() for k, v in out.items()}
  assert out["boundary_weights"] == [0, 1, 1, 0, 0, 0]
  assert out["boundary_positions"][1:3] == [[2, 5], [2, 5]]
  assert out["boundary_offsets"] == [0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("longest", [20, 2])
def test_boundaries_are_visible_neighbours_of_merged_spans(longest):
  rows = rows_of(150, LENGTH)
  spec = HIDING | dict(rate=0.3, unit=dict(kind="span"), boundaries=longest)
  out = corrupt(spec, rows)
  hidden = out["inputs"] == 4
  told = 0
  for r in range(150):
    segments, clean = rows["segments"][r], rows["tokens"][r]
    want = {}
    for i in np.flatnonzero(hidden[r]):
      left, right = i, i
      while hidden[r][left]:
        left -= 1
      while hidden[r][right]:
        right += 1
      inside = segments[left] == segments[i] == segments[right]
      visible = clean[left] >= 5 and clean[right] >= 5
      if inside and visible and i - left - 1 < longest:
        want[i] = (left, right, i - left - 1)
    counts = out["boundary_weights"][r] > 0
    found = zip(
      out["predict_positions"][r][counts],
      out["boundary_positions"][r][counts],
      out["boundary_offsets"][r][counts],
    )
    assert {p: (*ends, o) for p, ends, o in found} == want
    assert not out["boundary_positions"][r][~counts].any()
    told += counts.sum()
  assert told > 300


def test_boundaries_at_the_ends_of_a_row():
  """Rows without special tokens around the text."""
  tokens = np.full((40, 6), 7, np.int32)
  rows = {"tokens": tokens, "segments": np.ones_like(tokens)}
  out = corrupt(HIDING | dict(rate=0.5, boundaries=9), rows, length=6)
  weights = out["boundary_weights"] > 0
  ends = out["boundary_positions"][weights]
  assert weights.any() and (ends[:, 0] >= 0).all() and (ends[:, 1] < 6).all()
  at_end = out["predict_positions"] % 5 == 0
  assert not (weights & at_end).any()
