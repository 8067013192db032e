"""Shuffled trigrams: what they hold, how many, and in which orders."""

import collections
import itertools

import numpy as np
import pytest
import scipy.stats

from jaxlm.data.corruption import corruptions
from jaxlm.errors import UserError
from tests.data.test_corruption import LENGTH, corrupt, rows_of

SPEC = dict(kind="word_structure", shuffle=0.25)
MASK = 4


def one_text(batch):
  """Rows of 46 different tokens between [CLS] and [SEP]."""
  rows = rows_of(batch, LENGTH, pad=False)
  rows["tokens"][:, 1:-1] = np.arange(10, 10 + LENGTH - 2)
  rows["tokens"][:, 0], rows["tokens"][:, -1] = 2, 3
  rows["segments"][:] = 1
  return rows


def places_of(out, row):
  return out["predict_positions"][row][out["predict_weights"][row] > 0]


def test_each_trigram_holds_what_it_held_in_another_order():
  rows = one_text(400)
  # One masked token a row, which is kept.
  masking = dict(rate=0.01, mask=0.0, random=0.0, keep=1.0)
  out = corrupt(SPEC | dict(masking=masking), rows)
  alone = corrupt(dict(kind="masking") | masking, rows)
  orders, starts = collections.Counter(), collections.Counter()
  for row, (tokens, inputs) in enumerate(zip(rows["tokens"], out["inputs"])):
    told = set(places_of(out, row)) - set(places_of(alone, row))
    found = np.reshape(sorted(told), (-1, 3))
    assert len(found) == 4  # of 46 tokens at a quarter: round(46 * 0.25 / 3)
    for first, *rest in found:
      assert rest == [first + 1, first + 2]
      orders[tuple(inputs[first : first + 3] - tokens[first])] += 1
      starts[first] += 1
    still = np.setdiff1d(np.arange(LENGTH), found)
    np.testing.assert_array_equal(inputs[still], tokens[still])
  assert set(orders) == set(itertools.permutations(range(3))) - {(0, 1, 2)}
  assert scipy.stats.chisquare(list(orders.values())).pvalue > 1e-4
  assert min(starts) == 1 and max(starts) == LENGTH - 4  # [CLS], [SEP] stay
  inner = [starts[n] for n in range(6, LENGTH - 9)]
  assert scipy.stats.chisquare(inner).pvalue > 1e-4


def test_both_kinds_are_predicted_once_and_do_not_meet():
  rows = rows_of(128, LENGTH)
  spec = SPEC | dict(masking=dict(rate=0.2, mask=1.0, random=0.0, keep=0.0))
  out = corrupt(spec, rows)
  alone = corrupt(dict(kind="masking") | spec["masking"], rows)
  tokens, inputs = rows["tokens"][:, :LENGTH], out["inputs"]
  masked = alone["inputs"] == MASK
  np.testing.assert_array_equal(inputs == MASK, masked)
  count = 0
  for row in range(len(tokens)):
    places = places_of(out, row)
    assert (np.diff(places) > 0).all()
    assert set(np.flatnonzero(masked[row])) <= set(places)
    changed = set(np.flatnonzero(inputs[row] != tokens[row]))
    assert changed <= set(places)
    moved = sorted(set(places) - set(np.flatnonzero(masked[row])))
    assert len(moved) % 3 == 0
    count += len(moved)
    segments = rows["segments"][row, moved].reshape(-1, 3)
    assert (segments == segments[:, :1]).all()
    ids = out["predict_ids"][row][: len(places)]
    np.testing.assert_array_equal(ids, tokens[row, places])
  assert count > 128 * 3


def test_what_cannot_be_predicted_is_told():
  for masking in (dict(predict_rate=0.1), dict(boundaries=5)):
    with pytest.raises(UserError, match="predict_rate or boundaries"):
      corruptions.build(SPEC | dict(masking=masking))
  with pytest.raises(UserError, match="shuffle is 0"):
    corruptions.build(SPEC | dict(shuffle=0))
  with pytest.raises(UserError, match="Did you mean 'rate'"):
    corruptions.build(SPEC | dict(masking=dict(rates=0.1)))
