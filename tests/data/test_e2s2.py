"""E2S2's second view: what was shuffled, what was replaced, and how much."""

import collections
import itertools
import math

import numpy as np
import pytest
import scipy.stats

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _e2s2, _threefry, corruptions
from jaxlm.errors import UserError
from tests.data import fakes

LENGTH, VOCAB, MASK = 96, 400, 4


class Tokenizer(fakes.NumberTokenizer):
  """With an end of text."""

  def __init__(self):
    super().__init__(VOCAB)
    self.special_ids = self.special_ids | dict(eos=3)

  def id_of(self, role):
    return self.special_ids[role]


def keys_of(rows, seed=0):
  return _threefry.row_keys(
    tf.constant(seed, tf.int64),
    tf.range(rows, dtype=tf.int64),
    tf.zeros(rows, tf.int64),
  )


def rows_of(counts, seed=0):
  """Bracketed texts; a third of the tokens go on a word."""
  counts = np.asarray(counts)
  real = np.arange(LENGTH)[None] < counts[:, None]
  tokens = np.random.default_rng(seed).integers(5, VOCAB, real.shape) * real
  tokens[:, 0] = np.where(counts > 0, 2, 0)
  rows = np.flatnonzero(counts > 1)
  tokens[rows, counts[rows] - 1] = 3
  return {
    "tokens": tf.constant(tokens, tf.int32),
    "segments": tf.constant(real, tf.int32),
  }


def corrupt(counts, seed=0, **fields):
  part = corruptions.build(dict(kind="e2s2", **fields))
  rows = rows_of(counts)
  out = part.bind(Tokenizer(), LENGTH)(rows, keys_of(len(counts), seed))
  out = {k: v.numpy() for k, v in out.items()}
  for key, (shape, dtype) in part.features(LENGTH).items():
    assert out[key].shape == (len(counts), *shape) and out[key].dtype == dtype
  return rows, out


COUNTS = [LENGTH] * 200 + list(range(LENGTH + 1))


def test_the_first_view_is_that_of_infilling():
  rows, out = corrupt(COUNTS)
  part = corruptions.build(dict(kind="infilling", rate=0.15))
  plain = part.bind(Tokenizer(), LENGTH)(rows, keys_of(len(COUNTS)))
  for key, value in plain.items():
    assert np.array_equal(out[key], value), key


def test_tags_tell_what_differs():
  _, out = corrupt(COUNTS)
  first, second = out["inputs"], out["corrupted_inputs"]
  tags = out["tags"]
  assert np.array_equal(tags > 0, first != second)
  assert np.array_equal(out["tag_weights"], out["segments"])
  assert not tags[first < 5].any() and not tags[second < 5].any()
  # Without what was replaced, the views hold the same tokens.
  for row in range(len(COUNTS)):
    same = tags[row] < 2
    assert np.array_equal(
      second[row][tags[row] == 0], first[row][tags[row] == 0]
    )
    assert sorted(second[row][same]) == sorted(first[row][same])


def test_shuffled_trigrams():
  """At most the budget; three neighbours in another order, words whole."""
  _, out = corrupt(COUNTS, replace=0.0)
  first, second = out["inputs"], out["corrupted_inputs"]
  found = []
  for row in range(len(COUNTS)):
    changed = np.flatnonzero(first[row] != second[row])
    real = int(out["segments"][row].sum())
    trigrams = 0
    while changed.size:
      at = changed[0]
      # It begins at a change, or one in front where the first token stayed.
      spans = [(at, at + 3), (at - 1, at + 2)]
      match = [
        (a, b)
        for a, b in spans
        if sorted(first[row, a:b]) == sorted(second[row, a:b])
      ]
      assert match, (row, at)
      changed = changed[changed >= match[0][1]]
      trigrams += 1
    assert trigrams <= max(1, round(0.05 * real))
    found.append(trigrams)
  assert np.mean(found[:200]) > 1.5  # of at most 4, where words are alone


def test_every_window_of_words_gives_one_of_its_words():
  """Each token a word: 1 of 18, uniform; the last window is shorter."""
  rows, words = 3000, 40
  text = np.zeros((rows, words + 2), bool)
  text[:, 1:-1] = True
  spec = corruptions.build(dict(kind="e2s2"))
  assert spec.window == 18
  chosen = _e2s2.centres(
    spec,
    keys_of(rows),
    tf.constant(text),
    tf.constant(text),
    tf.ones_like(text, tf.int32),
  ).numpy()[:, 1:-1]
  assert not chosen[:, [0, -1]].any()  # they have one neighbour alone
  counts = chosen.sum(0)
  inner = counts[3:18]
  assert scipy.stats.chisquare(inner).pvalue > 1e-4
  assert abs(inner.mean() / rows - 1 / 18) < 4 * math.sqrt(1 / 18 / rows / 15)
  assert chosen.sum(1).max() == 2  # round(0.05 * 42)
  places = [np.flatnonzero(row) for row in chosen]
  assert min(np.diff(p).min() for p in places if len(p) > 1) >= 3


def test_all_other_orders_are_as_likely():
  rows = 4000
  ids = np.tile(np.arange(10, 17, dtype=np.int32), (rows, 1))
  centres = np.zeros(ids.shape, bool)
  centres[:, 3] = True
  made = _e2s2.shuffle(
    tf.constant(ids),
    tf.constant(centres),
    _threefry.below(keys_of(rows), 0, 7, 5),
  ).numpy()
  assert np.array_equal(made[:, [0, 1, 5, 6]], ids[:, [0, 1, 5, 6]])
  found = collections.Counter(map(tuple, made[:, 2:5].tolist()))
  wanted = set(itertools.permutations((12, 13, 14))) - {(12, 13, 14)}
  assert set(found) == wanted
  assert scipy.stats.chisquare(list(found.values())).pvalue > 1e-4


def test_the_share_of_replaced_tokens_is_exact():
  _, out = corrupt(COUNTS, shuffle=0.0, replace=0.1)
  first, second = out["inputs"], out["corrupted_inputs"]
  for row in range(200):
    free = int((first[row] >= 5).sum())
    budget = math.ceil(round(0.1 * out["segments"][row].sum(), 9))
    found = int((out["tags"][row] == 2).sum())
    # Seldom is a token drawn in its own place.
    assert budget - 3 <= found <= budget <= free
  new = second[first != second]
  counts = np.bincount(new, minlength=VOCAB)[5:]
  assert scipy.stats.chisquare(counts).pvalue > 1e-4
  assert ((first == MASK) == (second == MASK)).all()


@pytest.mark.slow
def test_rows_change_with_their_seed():
  _, out = corrupt([LENGTH] * 20)
  _, again = corrupt([LENGTH] * 20)
  assert all(np.array_equal(out[k], again[k]) for k in out)
  _, other = corrupt([LENGTH] * 20, seed=1)
  assert (out["tags"] != other["tags"]).any(1).all()


@pytest.mark.parametrize(
  "fields, words",
  [
    (dict(shuffle=0.5), "shuffle is 0.5"),
    (dict(replace=-0.1), "replace is -0.1"),
    (dict(most_shuffles=-1), "most_shuffles is -1"),
    (dict(infilling=dict(rat=0.1)), "Did you mean 'rate'"),
  ],
)
def test_wrong_settings_are_told(fields, words):
  with pytest.raises(UserError, match=words):
    corruptions.build(dict(kind="e2s2", **fields))
