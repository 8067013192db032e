"""Corruptions: invariants of all, exact counts, honest statistics."""

import numpy as np
import pytest
import scipy.stats

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _counts, _threefry, _units, corruptions
from jaxlm.errors import UserError
from tests.data import fakes

SPECS = [
  dict(kind="masking"),
  dict(kind="masking", rate=0.4, mask=1.0, random=0.0, keep=0.0),
  dict(kind="masking", rate=0.4, predict_rate=0.15),
  dict(kind="masking", rate=1.0, count="total"),
  dict(kind="masking", rate=0.3, count="unbiased"),
  dict(kind="masking", unit=dict(kind="whole_word")),
  dict(
    kind="masking", rate=0.5, predict_rate=0.2, unit=dict(kind="whole_word")
  ),
  dict(kind="masking", unit=dict(kind="span"), count="ceil"),
  dict(kind="masking", rate=0.6, unit=dict(kind="span", p=0.3, longest=4)),
  dict(kind="masking", rate=0.1, predict_rate=0.4),
  dict(kind="masking", unit=dict(kind="ngram"), boundaries=3),
  dict(kind="causal"),
  dict(kind="none"),
]
NAMES = [" ".join(map(str, s.values())) for s in SPECS]
# One of each unit; tests/data/test_corruption_contracts.py has every kind.
FEW = [0, 4, 5, 8, 9, 10]
few_first = [
  pytest.param(spec, id=name, marks=() if i in FEW else pytest.mark.slow)
  for i, (spec, name) in enumerate(zip(SPECS, NAMES))
]
LENGTH = 48


def corrupt(
  spec, rows, seed=0, index=None, epoch=0, length=LENGTH, vocab_size=60
):
  """Numpy in, numpy out; eagerly, since tracing would take most of the time."""
  batch = len(rows["tokens"])
  index = np.arange(batch) if index is None else np.asarray(index)
  apply = corruptions.build(spec).bind(
    fakes.NumberTokenizer(vocab_size), length
  )
  keys = _threefry.row_keys(
    tf.constant(seed, tf.int64),
    tf.constant(index, tf.int64),
    tf.fill([batch], tf.constant(epoch, tf.int64)),
  )
  out = apply({k: tf.constant(v, tf.int32) for k, v in rows.items()}, keys)
  return {k: v.numpy() for k, v in out.items()}


def rows_of(batch, width, seed=0, vocab_size=60, pad=True):
  """Packed rows of bracketed documents, some padding at the end."""
  rng = np.random.default_rng(seed)
  tokens = np.zeros((batch, width), np.int32)
  segments = np.zeros((batch, width), np.int32)
  for r in range(batch):
    at, segment = 0, 0
    end = width - (int(rng.integers(0, 4)) if pad else 0)
    while end - at >= 3:
      size = min(int(rng.integers(3, 20)), end - at)
      segment += 1
      tokens[r, at : at + size] = rng.integers(5, vocab_size, size)
      tokens[r, at], tokens[r, at + size - 1] = 2, 3
      segments[r, at : at + size] = segment
      at += size
  return {"tokens": tokens, "segments": segments}


def rows_for(spec, batch=32, seed=0, **more):
  width = corruptions.build(spec).text_length(LENGTH)
  return rows_of(batch, width, seed, **more)


def restored(out):
  """inputs with the predictions put back."""
  inputs = out["inputs"].copy()
  for r in range(len(inputs)):
    known = out["predict_weights"][r] > 0
    inputs[r, out["predict_positions"][r, known]] = out["predict_ids"][r, known]
  return inputs


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_invariants(spec):
  rows = rows_for(spec)
  out = corrupt(spec, rows)
  clean = rows["tokens"][:, :LENGTH]
  segments = rows["segments"][:, :LENGTH]
  corruption = corruptions.build(spec)

  features = corruption.features(LENGTH) | {
    "segments": ((LENGTH,), "int32"),
    "positions": ((LENGTH,), "int32"),
  }
  assert out.keys() == features.keys()
  for key, (shape, dtype) in features.items():
    assert out[key].shape == (32, *shape) and out[key].dtype == dtype
    assert out[key].min() >= 0 and out[key].max() < 60

  special = clean < 5
  assert np.array_equal(out["inputs"][special], clean[special])
  assert np.array_equal(out["segments"], segments)
  for r in range(32):
    for s in np.unique(segments[r][segments[r] > 0]):
      here = out["positions"][r][segments[r] == s]
      assert here.tolist() == list(range(len(here)))

  if "predict_ids" in out:
    weights = out["predict_weights"] > 0
    places = out["predict_positions"]
    if corruption.predicted >= corruption.rate:
      assert np.array_equal(restored(out), clean)
    assert not np.take_along_axis(special, places, 1)[weights].any()
    ids = np.take_along_axis(clean, places, 1)
    assert np.array_equal(out["predict_ids"][weights], ids[weights])
    assert not places[~weights].any() and not out["predict_ids"][~weights].any()
    for r in range(32):
      assert (np.diff(places[r][weights[r]]) > 0).all()  # ascending, once
  else:
    assert np.array_equal(out["inputs"], clean)


@pytest.mark.parametrize("spec", few_first)
def test_random_by_seed_row_and_epoch(spec):
  rows = rows_for(spec)
  out = corrupt(spec, rows, seed=7)
  again = corrupt(spec, rows, seed=7)
  assert all(np.array_equal(out[k], again[k]) for k in out)
  # A row's mask goes with its number, not with its place or neighbours.
  order = np.random.default_rng(1).permutation(32)[:9]
  moved = corrupt(
    spec, {k: v[order] for k, v in rows.items()}, seed=7, index=order
  )
  assert all(np.array_equal(out[k][order], moved[k]) for k in out)
  if spec["kind"] == "masking":
    changes = dict(
      seed=corrupt(spec, rows, seed=8),
      epoch=corrupt(spec, rows, seed=7, epoch=1),
      row=corrupt(spec, rows, seed=7, index=np.arange(32) + 100),
      high=corrupt(spec, rows, seed=7 + 2**32),
    )
    for other in changes.values():
      same = (other["inputs"] == out["inputs"]).all(axis=1)
      assert same.sum() <= 3


@pytest.mark.parametrize("spec", few_first)
@pytest.mark.parametrize("length", [1, 2, 3])
def test_degenerate_rows(spec, length):
  width = corruptions.build(spec).text_length(length)
  tokens = np.zeros((4, width), np.int32)
  tokens[1] = 2  # special tokens alone
  tokens[2] = 7
  tokens[3, 0] = 9
  segments = (tokens > 0).astype(np.int32)
  out = corrupt(spec, {"tokens": tokens, "segments": segments}, length=length)
  if "predict_weights" in out:
    assert out["predict_weights"][:2].sum() == 0  # nothing to select
    # A word may be longer than what is to be hidden.
    if spec.get("unit", {}).get("kind") not in ("whole_word", "ngram"):
      assert (out["predict_weights"][2:].sum(axis=1) >= 1).all()


def test_threefry_golden():
  """The vectors that its authors publish with Random123."""
  ones = 2**32 - 1
  for key, counter, want in (
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((ones, ones), (ones, ones), (0x1CB996FC, 0xBB002BE7)),
    (
      (0x13198A2E, 0x03707344),
      (0x243F6A88, 0x85A308D3),
      (0xC4923A9C, 0x483DF7A0),
    ),
  ):
    words = [tf.constant(w, tf.uint32) for w in (*key, *counter)]
    assert tuple(int(w) for w in _threefry.threefry(*words)) == want


def test_threefry_is_that_of_jax():
  prng = pytest.importorskip("jax.extend.random")
  if not hasattr(prng, "threefry_2x32"):
    from jax._src import prng
  rng = np.random.default_rng(0)
  key = rng.integers(0, 2**32, 2, dtype=np.uint32)
  counters = rng.integers(0, 2**32, 64, dtype=np.uint32)
  want = np.asarray(prng.threefry_2x32(tuple(key), counters))
  found = _threefry.threefry(
    *(tf.constant(k) for k in key),
    tf.constant(counters[:32]),
    tf.constant(counters[32:]),
  )
  assert np.array_equal(np.concatenate(found), want)


def test_uniform_numbers_are_uniform():
  keys = _threefry.row_keys(
    tf.constant(3, tf.int64),
    tf.range(400, dtype=tf.int64),
    tf.zeros(400, tf.int64),
  )
  u = _threefry.uniform(keys, 0, 101).numpy()
  assert u.shape == (400, 101) and u.min() >= 0 and u.max() < 1
  assert scipy.stats.kstest(u.ravel(), "uniform").pvalue > 1e-4
  other = _threefry.uniform(keys, 1, 101).numpy()
  assert abs(np.corrcoef(u.ravel(), other.ravel())[0, 1]) < 4 / 201
  assert abs(np.corrcoef(u[:-1].ravel(), u[1:].ravel())[0, 1]) < 4 / 201
  below = _threefry.below(keys, 2, 100, 7).numpy()
  counts = np.bincount(below.ravel(), minlength=7)
  assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_counts_golden():
  """Half to even: 0.15 of 510 is 76.5 and makes 76."""
  exact = _counts.table(0.15, 512, "exact")
  assert exact[510] == 76 and exact[10] == 2 and exact[128] == 19
  half = _counts.table(0.5, 5, "exact")
  assert half.tolist() == [0, 0, 1, 2, 2, 2]
  assert _counts.table(0.15, 20, "ceil")[[1, 7, 20]].tolist() == [1, 2, 3]
  assert _counts.most(0.15, 128, "exact") == 20
  assert _counts.most(0.15, 512, "exact") == 77
  assert _counts.most(0.4, 128, "exact") == 52
  for count in _counts.COUNTS:
    for rate in (0.05, 0.15, 0.4, 1.0):
      for length in (1, 2, 16, 128, 510):
        most = _counts.most(rate, length, count)
        assert most >= _counts.table(rate, length, count).max()
        assert 1 <= most <= length


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_exact_counts_have_no_variance(rate):
  spec = dict(kind="masking", rate=rate)
  rows = rows_for(spec, batch=64)
  found = corrupt(spec, rows)["predict_weights"].sum(axis=1)
  selectable = (rows["tokens"] >= 5).sum(axis=1)
  want = np.maximum(np.round(rate * selectable), 1)
  assert np.array_equal(found, want)


def test_total_counts_special_tokens():
  spec = dict(kind="masking", count="total")
  rows = rows_for(spec, batch=64)
  found = corrupt(spec, rows)["predict_weights"].sum(axis=1)
  real = (rows["segments"] > 0).sum(axis=1)
  assert np.array_equal(found, np.maximum(np.round(0.15 * real), 1))


def test_unbiased_counts_average_to_the_rate():
  spec = dict(kind="masking", rate=0.33, count="unbiased")
  rows = rows_for(spec, batch=2000)
  selectable = (rows["tokens"] >= 5).sum(axis=1)
  found = corrupt(spec, rows)["predict_weights"].sum(axis=1)
  assert (np.abs(found - 0.33 * selectable) < 1).all()
  excess = found - 0.33 * selectable
  assert abs(excess.mean()) < 4 * 0.5 / np.sqrt(2000)


def test_every_place_is_equally_likely():
  tokens = np.full((4000, LENGTH), 7, np.int32)
  tokens[:, 0], tokens[:, -1] = 2, 3
  rows = {"tokens": tokens, "segments": np.ones_like(tokens)}
  out = corrupt(dict(kind="masking"), rows)
  places = out["predict_positions"][out["predict_weights"] > 0]
  counts = np.bincount(places, minlength=LENGTH)[1:-1]
  assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_replacement_mix():
  tokens = np.random.default_rng(0).integers(5, 1000, (2000, LENGTH))
  rows = {"tokens": tokens, "segments": np.ones_like(tokens)}
  spec = dict(kind="masking", rate=0.5, mask=0.6, random=0.3, keep=0.1)
  out = corrupt(spec, rows, vocab_size=1000)
  new = np.take_along_axis(out["inputs"], out["predict_positions"], 1).ravel()
  old = out["predict_ids"].ravel()
  n = len(new)
  masked = new == 4
  kept = new == old
  shares = dict(
    mask=(masked.mean(), 0.6),
    random=((~masked & ~kept).mean(), 0.3 * 994 / 995),
    keep=(kept.mean(), 0.1 + 0.3 / 995),
  )
  for found, p in shares.values():
    assert abs(found - p) < 4 * np.sqrt(p * (1 - p) / n)
  drawn = new[~masked & ~kept]
  assert drawn.min() >= 5
  counts = np.bincount(drawn, minlength=1000)[5:]
  assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_neighbours_of_a_masked_token_are_visible():
  """Uniform masking leaves both with chance (1 - m)^2 (Wettig et al.)."""
  tokens = np.full((3000, 400), 7, np.int32)
  rows = {"tokens": tokens, "segments": np.ones_like(tokens)}
  spec = dict(kind="masking", rate=0.4, mask=1.0, random=0.0, keep=0.0)
  out = corrupt(spec, {k: v[:300] for k, v in rows.items()}, length=400)
  hidden = out["inputs"] == 4
  both = ~hidden[:, :-2] & ~hidden[:, 2:]
  share = both[hidden[:, 1:-1]].mean()
  assert share == pytest.approx(0.36, abs=0.01)


def test_predicted_are_a_random_part_of_the_corrupted():
  spec = dict(kind="masking", rate=0.4, mask=1.0, random=0.0, keep=0.0)
  rows = rows_for(spec, batch=500)
  full = corrupt(spec, rows)
  part = corrupt(spec | dict(predict_rate=0.2), rows)
  assert np.array_equal(full["inputs"], part["inputs"])
  selectable = (rows["tokens"] >= 5).sum(axis=1)
  want = np.maximum(np.round(0.2 * selectable), 1)
  assert np.array_equal(part["predict_weights"].sum(axis=1), want)
  places = part["predict_positions"]
  at = np.take_along_axis(part["inputs"], places, 1)
  assert (at[part["predict_weights"] > 0] == 4).all()
  assert part["predict_positions"].shape[1] == 10
  # Not the leftmost: of the corrupted, the first is predicted half the time.
  first = full["predict_positions"][:, 0]
  hit = (places == first[:, None]) & (part["predict_weights"] > 0)
  assert abs(hit.any(axis=1).mean() - 0.5) < 4 * 0.5 / np.sqrt(500) + 0.02


def words_of(tokens, segments):
  """A number for the word of each token; 0 for special tokens."""
  out, word = np.zeros_like(tokens), 0
  for i, token in enumerate(tokens):
    if token < 5:
      continue
    new = i == 0 or tokens[i - 1] < 5 or segments[i - 1] != segments[i]
    word += new or token % 3 != 0
    out[i] = word
  return out


def whole_words_one_at_a_time(words, order, count):
  """BERT's walk: skip a word that would exceed the count."""
  chosen, used = set(), 0
  for word in order:
    size = (words == word).sum()
    if used + size <= count:
      chosen.add(word)
      used += size
  return chosen, used


@pytest.mark.parametrize("rate", [0.15, 0.6])
def test_whole_words_as_berts_walk_takes_them(rate):
  spec = dict(kind="masking", rate=rate, mask=1.0, random=0.0, keep=0.0)
  spec["unit"] = dict(kind="whole_word")
  rows = rows_for(spec, batch=64)
  out = corrupt(spec, rows, seed=5)
  keys = _threefry.row_keys(
    tf.constant(5, tf.int64),
    tf.range(64, dtype=tf.int64),
    tf.zeros(64, tf.int64),
  )
  ranks = _threefry.ranks(keys, 0, LENGTH).numpy()
  for r in range(64):
    words = words_of(rows["tokens"][r], rows["segments"][r])
    count = max(1, round(rate * (words > 0).sum()))
    firsts = [(words == w).argmax() for w in range(1, words.max() + 1)]
    order = 1 + np.argsort(-ranks[r, firsts])
    chosen, _ = whole_words_one_at_a_time(words, order, count)
    hidden = out["inputs"][r] == 4
    assert np.array_equal(hidden, np.isin(words, sorted(chosen)))
    assert hidden.sum() <= count


def span_rows(batch, words=40):
  """One segment a row, every token a word."""
  tokens = np.full((batch, words + 2), 7, np.int32)
  tokens[:, 0], tokens[:, -1] = 2, 3
  return {"tokens": tokens, "segments": np.ones_like(tokens)}


def test_span_lengths_golden():
  chances = _units.span_lengths(0.2, 10)
  want = [0.22406, 0.17925, 0.14340, 0.11472, 0.09177]
  want += [0.07342, 0.05874, 0.04699, 0.03759, 0.03007]
  assert chances == pytest.approx(want, abs=5e-6)
  assert (chances * np.arange(1, 11)).sum() == pytest.approx(3.797098, abs=1e-6)


def sequential_spans(length, count, chances, rng):
  """SpanBERT's loop, one span at a time, anchors redrawn."""
  chosen = np.zeros(length, bool)
  while chosen.sum() < count:
    size = 1 + rng.choice(len(chances), p=chances)
    anchor = rng.integers(length)
    if chosen[anchor]:
      continue
    for i in range(anchor, min(anchor + size, length)):
      if chosen.sum() < count:
        chosen[i] = True
  return chosen


def runs(chosen):
  """Lengths of the runs of True."""
  edges = np.diff(np.concatenate([[0], chosen.astype(int), [0]]))
  return np.flatnonzero(edges < 0) - np.flatnonzero(edges > 0)


def test_spans_are_spanberts():
  spec = dict(kind="masking", rate=0.25, mask=1.0, random=0.0, keep=0.0)
  spec["unit"] = dict(kind="span")
  out = corrupt(spec, span_rows(1500), length=42)
  hidden = (out["inputs"] == 4)[:, 1:-1]
  assert (hidden.sum(axis=1) == 10).all()
  chances = _units.span_lengths(0.2, 10)
  rng = np.random.default_rng(0)
  want = np.array([sequential_spans(40, 10, chances, rng) for _ in range(1500)])
  tables = [
    np.bincount(np.concatenate([runs(r) for r in rows]), minlength=11)[1:]
    for rows in (hidden, want)
  ]
  assert scipy.stats.chi2_contingency(tables).pvalue > 1e-4
  places = [rows.sum(axis=0) for rows in (hidden, want)]
  assert scipy.stats.chi2_contingency(places).pvalue > 1e-4


def test_spans_start_at_words_and_share_their_fate():
  spec = dict(kind="masking", rate=0.3, mask=0.5, random=0.0, keep=0.5)
  spec["unit"] = dict(kind="span")
  rows = rows_for(spec, batch=200)
  out = corrupt(spec, rows)
  fates = []
  for r in range(200):
    words = words_of(rows["tokens"][r], rows["segments"][r])
    places = out["predict_positions"][r][out["predict_weights"][r] > 0]
    segments = rows["segments"][r][places]
    cuts = 1 + np.flatnonzero((np.diff(places) != 1) | (np.diff(segments) != 0))
    for run in np.split(places, cuts):
      start = run[0]
      assert start == 0 or words[start - 1] != words[start]
      hidden = out["inputs"][r][run] == 4
      assert hidden.all() or not hidden.any()
      fates.append(hidden.all())
  bound = 4 * 0.5 / np.sqrt(len(fates))
  assert abs(np.mean(fates) - 0.5) < bound


def test_units_stay_in_their_segment():
  """Without brackets, only segments keep documents apart."""
  tokens = np.full((200, LENGTH), 6, np.int32)  # goes on a word: one long word
  segments = np.repeat(np.arange(1, 13), 4)[None].repeat(200, 0)
  rows = {"tokens": tokens, "segments": segments}
  for unit in ("whole_word", "span"):
    spec = dict(kind="masking", rate=4 / 48, mask=1.0, random=0.0, keep=0.0)
    spec["unit"] = dict(kind=unit)
    hidden = corrupt(spec, rows)["inputs"] == 4
    parts = hidden.reshape(200, 12, 4).sum(axis=2)
    assert ((parts == 4) | (parts == 0)).all()  # a word is a segment of 4
    assert (parts.sum(axis=1) == 4).all()


def test_causal_golden():
  rows = {
    "tokens": np.array([[5, 6, 3, 8, 9, 0]]),
    "segments": np.array([[1, 1, 1, 2, 2, 0]]),
  }
  out = corrupt(dict(kind="causal"), rows, length=5)
  assert out["inputs"].tolist() == [[5, 6, 3, 8, 9]]
  assert out["targets"].tolist() == [[6, 3, 0, 9, 0]]
  assert out["weights"].tolist() == [[1, 1, 0, 1, 0]]
  assert out["positions"].tolist() == [[0, 1, 2, 0, 1]]
  assert out["segments"].tolist() == [[1, 1, 1, 2, 2]]


def test_sentence_features_pass_through():
  rows = {
    "tokens": np.array([[2, 5, 3, 6, 3, 0]]),
    "segments": np.array([[1, 1, 1, 1, 1, 0]]),
    "types": np.array([[0, 0, 0, 1, 1, 0]]),
    "cls_positions": np.array([[0, 0]]),
    "labels": np.array([[1, -1]]),
  }
  out = corrupt(dict(kind="none"), rows, length=6)
  assert out["types"].tolist() == rows["types"].tolist()
  assert out["labels"].tolist() == [[1, 0]]
  assert out["label_weights"].tolist() == [[1.0, 0.0]]
  assert out["label_weights"].dtype == np.float32


@pytest.mark.parametrize(
  "change,message",
  [
    (dict(rate=0), "lies above 0"),
    (dict(rate=1.5), "rate is 1.5"),
    (dict(rate="15%"), "a share such as 0.15"),
    (dict(predict_rate=1.3), "predict_rate is 1.3"),
    (dict(boundaries=-1), "or 0 for none"),
    (dict(unit=dict(kind="ngram", longest=0)), "at least 1"),
    (dict(mask=0.9), "sum to 1, not 1.1"),
    (dict(count="exactly"), "Did you mean 'exact'"),
    (dict(unit=dict(kind="whole_words")), "Did you mean 'whole_word'"),
    (dict(unit="span"), r"give dict\(kind="),
    (dict(unit=dict(kind="span", q=0.2)), "takes no 'q'"),
    (dict(unit=dict(kind="span", p=1.0)), "p lies between 0 and 1"),
  ],
)
def test_mistakes_are_told(change, message):
  with pytest.raises(UserError, match=message):
    corruptions.build(dict(kind="masking") | change)
