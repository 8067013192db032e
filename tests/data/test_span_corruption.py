"""T5's span corruption: lengths of its code, masks, and texts put together."""

import collections
import itertools

import numpy as np
import pytest
import scipy.stats

from jaxlm.data import packed
from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _lengths, _spans, _threefry, corruptions
from jaxlm.errors import UserError
from tests.data import fakes

LENGTH, VOCAB = 32, 80
FIRST = VOCAB - 1  # the first sentinel


def keys_of(batch, seed=0):
  number = lambda x: tf.constant(x, tf.int64)
  return _threefry.row_keys(
    number(seed), tf.range(batch, dtype=tf.int64), tf.zeros(batch, tf.int64)
  )


def corrupt(counts, seed=0, **fields):
  """Corrupted rows of texts of these lengths, in numpy."""
  spec = dict(kind="span_corruption", **fields)
  part = corruptions.build(spec)
  width = part.text_length(LENGTH)
  counts = np.asarray(counts)
  real = np.arange(width)[None] < counts[:, None]
  random = np.random.default_rng(seed)
  tokens = np.where(real, random.integers(5, VOCAB - 12, real.shape), 0)
  rows = {
    "tokens": tf.constant(tokens, tf.int32),
    "segments": tf.constant(real.astype(np.int32)),
  }
  apply = part.bind(fakes.SentinelTokenizer(VOCAB), LENGTH)
  out = apply(rows, keys_of(len(counts), seed))
  return part, tokens, {k: v.numpy() for k, v in out.items()}


@pytest.mark.parametrize(
  ("inputs", "density", "mean", "text", "targets"),
  [
    (512, 0.15, 3, 568, 114),
    (128, 0.15, 3, 141, 29),
    (256, 0.15, 3, 284, 58),
    (1024, 0.15, 3, 1137, 229),
    (64, 0.2, 2, 70, 22),
    (64, 0.2, 1, 63, 27),
    (512, 0.5, 3, 766, 512),
    # UL2's
    (512, 0.15, 8, 588, 100),
    (512, 0.5, 8, 908, 512),
    (512, 0.15, 64, 600, 92),
    (512, 0.5, 64, 1006, 512),
  ],
)
def test_lengths_are_those_of_the_original(
  inputs, density, mean, text, targets
):
  found = _lengths.text_length(inputs, density, mean)
  assert found == text
  assert _lengths.made(found, density, mean)[1] == targets
  part = corruptions.build(
    dict(kind="span_corruption", density=density, mean_span=float(mean))
  )
  assert part.text_length(inputs) == text
  assert part.target_length(inputs) == targets


def test_parts_in_turn_make_the_mask_of_the_original():
  """Length 32, density 0.25, mean 2: T5's own test vector."""
  kept = np.cumsum([0, 6, 1, 15, 2])[None].astype(np.int32)
  taken = np.cumsum([0, 3, 3, 1, 1])[None].astype(np.int32)
  assert _lengths.counts(32, 0.25, 2.0) == (8, 4)
  mask = _spans.mask(tf.constant(kept), tf.constant(taken), 32).numpy()
  assert np.flatnonzero(mask[0]).tolist() == [6, 7, 8, 10, 11, 12, 28, 31]


def test_every_split_is_as_likely():
  """6 items in 3 parts: 10 ways."""
  batch = 4000
  total = tf.fill([batch], 6)
  borders = _spans.parts(keys_of(batch), 0, total, tf.fill([batch], 3), 9, 5)
  assert borders.shape == (batch, 6)
  sizes = np.diff(borders.numpy(), axis=1)
  assert (sizes[:, 3:] == 0).all() and (sizes[:, :3] > 0).all()
  assert (sizes.sum(1) == 6).all()
  found = collections.Counter(map(tuple, sizes[:, :3].tolist()))
  ways = [w for w in itertools.product(range(1, 5), repeat=3) if sum(w) == 6]
  assert set(found) == set(ways) and len(ways) == 10
  assert scipy.stats.chisquare(list(found.values())).pvalue > 1e-3


@pytest.mark.parametrize(
  "fields",
  [
    {},
    dict(density=0.5),
    dict(density=0.3, mean_span=1.0),
    dict(mean_span=9.0),
    dict(mean_span=9.0, free_ends=True),
    dict(density=0.5, free_ends=True),
  ],
)
def test_the_text_is_put_together_again(fields):
  full = corruptions.build(dict(kind="span_corruption", **fields)).text_length(
    LENGTH
  )
  counts = [full] * 5 + list(range(full + 1))
  part, tokens, out = corrupt(counts, **fields)
  for row, count in enumerate(counts):
    noise, spans = _lengths.counts(count, part.density, part.mean_span)
    source = out["inputs"][row][out["segments"][row] > 0].tolist()
    target = out["targets"][row][out["weights"][row] > 0].tolist()
    if not count:
      assert source == target == []
      continue
    assert source.pop() == target.pop() == 3  # EOS, or SEP in its place
    assert len(target) == noise + spans
    assert len(source) == count - noise + (spans if noise else 0)
    assert not noise or target[0] == FIRST
    hidden = {}
    for token in target:
      if token > FIRST - 12:
        hidden[token] = []
        last = token
      else:
        hidden[last].append(token)
    assert sorted(hidden, reverse=True) == [FIRST - i for i in range(spans)]
    rebuilt = [t for s in source for t in hidden.get(s, [s])]
    assert rebuilt == tokens[row, :count].tolist()
    if noise and not part.free_ends:
      assert source[0] <= FIRST - 12 < source[-1]


def masks(rows, text, **fields):
  """Which of `text` tokens are hidden, bool [rows, text]."""
  distinct = np.arange(5, 5 + text)  # so that what is shown tells its place
  spec = dict(kind="span_corruption", **fields)
  part = corruptions.build(spec)
  width = part.text_length(LENGTH)
  row = np.zeros((rows, width), np.int32)
  row[:, :text] = distinct
  made = {"tokens": row, "segments": (row > 0).astype(np.int32)}
  made = {k: tf.constant(v) for k, v in made.items()}
  apply = part.bind(fakes.SentinelTokenizer(VOCAB), LENGTH)
  shown = apply(made, keys_of(rows))["inputs"].numpy()
  return ~(shown[:, :, None] == distinct).any(axis=1)


def test_a_single_span_is_a_suffix_unless_ends_are_free():
  """20 tokens, 3 of them hidden in one span: 18 places."""
  fields = dict(mean_span=9.0)
  assert _lengths.counts(20, 0.15, 9.0) == (3, 1)
  hidden = masks(50, 20, **fields)
  assert (hidden == (np.arange(20) >= 17)).all()
  hidden = masks(2000, 20, free_ends=True, **fields)
  assert (hidden.sum(1) == 3).all()
  places = np.bincount(hidden.argmax(1), minlength=18)
  assert len(places) == 18
  assert scipy.stats.chisquare(places).pvalue > 1e-4


def test_free_ends_are_uniform_over_all_masks_of_as_many_spans():
  """6 tokens, 3 hidden in 2 spans: 2 ways to cut them, 6 to lay them."""
  fields = dict(density=0.5, mean_span=1.5)
  assert _lengths.counts(6, 0.5, 1.5) == (3, 2)
  hidden = masks(3000, 6, free_ends=True, **fields)
  found = collections.Counter(map(tuple, hidden.tolist()))
  runs = lambda m: sum(b and not a for a, b in zip((False, *m), m))
  every = itertools.product([False, True], repeat=6)
  ways = [m for m in every if sum(m) == 3 and runs(m) == 2]
  assert set(found) == set(ways) and len(ways) == 12
  assert scipy.stats.chisquare(list(found.values())).pvalue > 1e-4


def test_a_full_row_is_full_and_the_decoder_is_one_token_behind():
  part, _, out = corrupt(
    [corruptions.build(dict(kind="span_corruption")).text_length(LENGTH)] * 4
  )
  assert out["inputs"].shape == (4, LENGTH) and (out["segments"] == 1).all()
  assert out["targets"].shape == (4, part.target_length(LENGTH))
  assert (out["weights"] == 1).all()
  assert (out["decoder_inputs"][:, 0] == 0).all()  # padding starts it
  np.testing.assert_array_equal(
    out["decoder_inputs"][:, 1:], out["targets"][:, :-1]
  )
  for side in ("", "decoder_"):
    length = out[f"{side}inputs"].shape[1]
    assert (out[f"{side}positions"] == np.arange(length)).all()
  features = part.features(LENGTH)
  for key, (shape, dtype) in features.items():
    assert out[key].shape[1:] == shape and out[key].dtype == dtype, key


def test_rows_change_with_their_seed_and_not_with_their_batch():
  counts = [30, 35, 20]
  _, _, out = corrupt(counts)
  _, _, again = corrupt(counts)
  np.testing.assert_array_equal(out["inputs"], again["inputs"])
  _, _, other = corrupt(counts, seed=1)
  assert (out["segments"] == other["segments"]).all()
  assert (out["inputs"] != other["inputs"]).any()


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    (dict(density=0.0), "density is 0.0"),
    (dict(density=1.0), "density is 1.0"),
    (dict(mean_span=0.5), "mean_span is 0.5"),
    (dict(density=0.9, mean_span=1.0), "the tokenizer has 12 sentinels"),
  ],
)
def test_wrong_settings_are_told(fields, words):
  with pytest.raises(UserError, match=words):
    corruptions.build(dict(kind="span_corruption", **fields)).bind(
      fakes.SentinelTokenizer(VOCAB), LENGTH
    )


def test_packed_rows_are_refused():
  with pytest.raises(UserError, match="kind='stream'"):
    packed.Packed(
      files="x",
      arrangement=dict(kind="documents"),
      corruption=dict(kind="span_corruption"),
    )
