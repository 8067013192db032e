"""BART's noise: spans, masks put in, sentences in another order."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxlm.data import packed
from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import (
  _counts,
  _infilling,
  _sentences,
  _threefry,
  corruptions,
)
from jaxlm.errors import UserError
from tests.data import fakes

LENGTH, MASK = 48, 4
STOP = 59  # written "."


class Tokenizer(fakes.NumberTokenizer):
  """One of whose tokens is a full stop, and begins a word."""

  def __init__(self):
    super().__init__()
    self.special_ids = self.special_ids | dict(eos=3)

  def decode(self, ids, specials=False):
    return "." if list(ids) == [STOP] else super().decode(ids, specials)

  def id_of(self, role):
    return self.special_ids[role]


def keys_of(index, seed=0):
  return _threefry.row_keys(
    tf.constant(seed, tf.int64),
    tf.constant(index, tf.int64),
    tf.zeros(len(index), tf.int64),
  )


def rows_of(counts, seed=0, brackets=True, stops=0.0):
  """Bracketed texts of these lengths, brackets included."""
  rng = np.random.default_rng(seed)
  counts = np.asarray(counts)
  real = np.arange(LENGTH)[None] < counts[:, None]
  tokens = rng.integers(5, STOP, real.shape)
  tokens = np.where(rng.random(real.shape) < stops, STOP, tokens) * real
  if brackets:
    tokens[:, 0] = np.where(counts > 0, 2, 0)
    rows = np.flatnonzero(counts > 1)
    tokens[rows, counts[rows] - 1] = 3
  return {
    "tokens": tokens.astype(np.int32),
    "segments": real.astype(np.int32),
  }


def corrupt(rows, index=None, seed=0, **fields):
  part = corruptions.build(dict(kind="infilling", **fields))
  index = np.arange(len(rows["tokens"])) if index is None else index
  apply = part.bind(Tokenizer(), LENGTH)
  made = {k: tf.constant(v) for k, v in rows.items()}
  out = {k: v.numpy() for k, v in apply(made, keys_of(index, seed)).items()}
  for key, (shape, dtype) in part.features(LENGTH).items():
    assert out[key].shape[1:] == shape and out[key].dtype == dtype, key
  return out


def source(out, row):
  return out["inputs"][row][out["segments"][row] > 0].tolist()


def is_part(some, whole):
  """Whether `some` stands in `whole` in its order."""
  left = iter(whole)
  return all(token in left for token in some)


def is_text(tokens):
  return np.asarray(tokens) >= 5


def words_of(tokens):
  """How many words a row has; the first token of a text begins one."""
  text = is_text(tokens)
  before = np.pad(text[:-1], (1, 0))
  return int((text & ((np.asarray(tokens) % 3 != 0) | ~before)).sum())


COUNTS = [LENGTH] * 60 + list(range(LENGTH + 1))


@pytest.mark.parametrize(
  "fields, brackets",
  [
    (dict(), True),
    (dict(), False),
    (dict(rate=1.0), True),
    (dict(replace="none"), False),
    (dict(replace="each"), True),
    (dict(rate=0.15, random=0.5), False),
  ],
)
def test_what_is_left_is_the_text_in_its_order(fields, brackets):
  rows = rows_of(COUNTS, brackets=brackets)
  out = corrupt(rows, **fields)
  for row, count in enumerate(COUNTS):
    text = rows["tokens"][row, :count].tolist()
    assert out["targets"][row, :count].tolist() == text
    assert out["weights"][row].sum() == count
    found = source(out, row)
    emptied = fields.get("replace") == "none" and words_of(text) == 1
    assert len(found) <= LENGTH
    assert (len(found) > 0) == (count > 0) or (emptied and not brackets)
    if not fields.get("random"):
      assert is_part([t for t in found if t != MASK], text)
    if brackets and count > 1:  # nothing in front and behind
      assert (found[0], found[-1]) == (2, 3) and 2 not in found[1:]
    before = [3, *text][:count]  # EOS starts the decoder
    assert out["decoder_inputs"][row, :count].tolist() == before
    budget = math.ceil(fields.get("rate", 0.3) * words_of(text))
    lost = words_of(text) - words_of([t for t in found if t != MASK])
    assert fields.get("random") or fields.get("unit") or lost <= 2 * budget
  padding = out["segments"] == 0
  assert not out["inputs"][padding].any()
  assert not out["decoder_inputs"][out["weights"] == 0].any()


def test_single_tokens_are_masked_or_deleted_exactly():
  rows = rows_of(COUNTS)
  common = dict(unit="token", mean_span=0.0)
  masked = corrupt(rows, replace="each", **common)
  deleted = corrupt(rows, replace="none", **common)
  for row, count in enumerate(COUNTS):
    text = rows["tokens"][row, :count]
    wanted = math.ceil(round(0.3 * is_text(text).sum(), 9))
    found = np.asarray(source(masked, row))
    assert len(found) == count
    assert (found == MASK).sum() == wanted
    assert (found == text)[found != MASK].all()
    # The same words are hidden, whatever stands for them.
    assert source(deleted, row) == found[found != MASK].tolist()


def slow_cover(words, starts, sizes):
  """fairseq's loop over the tokens of each span, one at a time."""
  gone, first = set(), set()
  for at in np.flatnonzero(sizes):
    first.add(at)
    left, here = sizes[at], at
    while True:
      here += 1
      if here == len(words) or not words[here]:
        break
      left -= starts[here]
      if left <= 0:
        break
      gone.add(here)
  return gone | first, first - gone


def test_spans_cover_what_fairseqs_loop_covers():
  rng = np.random.default_rng(0)
  words = rng.random((300, 30)) < 0.9
  before = np.pad(words[:, :-1], ((0, 0), (1, 0)))
  starts = words & ((rng.random(words.shape) < 0.6) | ~before)
  sizes = rng.integers(1, 7, words.shape) * (rng.random(words.shape) < 0.2)
  sizes = sizes * starts
  hidden, opens = _infilling.covered(
    tf.constant(words), tf.constant(starts), tf.constant(sizes, tf.int32)
  )
  for row in range(300):
    gone, first = slow_cover(words[row], starts[row], sizes[row])
    assert set(np.flatnonzero(hidden[row])) == gone
    assert set(np.flatnonzero(opens[row])) == first


def test_spans_make_up_the_budget():
  """Drawn one after the other until it is spent; zeros put masks in."""
  spec = corruptions.build(dict(kind="infilling"))
  budget = np.tile(np.array([0, 1, 2, 7, 60], np.int32), 400)
  lengths, nothing = _infilling.spans(
    spec, keys_of(np.arange(len(budget))), tf.constant(budget), 60
  )
  lengths, nothing = lengths.numpy(), nothing.numpy()
  assert np.array_equal(lengths.sum(1), budget)
  assert not nothing[budget == 0].any()
  behind = np.cumsum(lengths == 0, axis=1) > 0
  assert not lengths[behind].any()
  # The first five, which are never cut, are Poisson given that they are not 0.
  many = lengths[budget == 60]
  counts = np.bincount(many[:, :5].ravel(), minlength=8)[1:]
  counts = np.array([*counts[:6], counts[6:].sum()])
  chances = spec.span_lengths[1:]
  chances = np.array([*chances[:6], chances[6:].sum()]) / chances.sum()
  found = counts.sum()
  assert scipy.stats.chisquare(counts, chances * found).pvalue > 1e-4
  found = [row[row > 0][:-1] for row in many]
  draws = sum(map(len, found)) + len(found) + nothing[budget == 60].sum()
  zero = spec.span_lengths[0]
  assert zero == pytest.approx(math.exp(-3), abs=1e-6)
  share = nothing[budget == 60].sum() / draws
  assert abs(share - zero) < 4 * math.sqrt(zero * (1 - zero) / draws)


def test_masks_stand_for_spans():
  """Their number is about budget / 3 and at most that of the draws."""
  rows = rows_of([LENGTH] * 1000)
  rows["tokens"][:, 1:-1] = 7  # each a word: 46 of them
  out = corrupt(rows)
  budget = math.ceil(0.3 * 46)
  left = (out["inputs"] == 7).sum(1)
  assert (46 - left <= budget).all()
  # Where spans run into each other, or into the end, fewer words are hidden.
  assert 0.8 * budget < (46 - left).mean() < budget
  masks = (out["inputs"] == MASK).sum(1)
  assert masks.min() >= 1 and masks.max() <= budget + 8
  assert 4.0 < masks.mean() < 6.5
  inside = out["inputs"][:, 1:-1]
  share = (inside == MASK)[:, :20].mean(0)  # masks stand anywhere
  assert share.max() < 2.0 * share.min()


def test_masks_that_stand_for_nothing_are_put_in_anywhere():
  """Of one span of no words and one of one: 3 gaps, 2 words."""
  rows = rows_of([4] * 4000)
  rows["tokens"][:, 1:3] = [7, 8]
  out = corrupt(rows, rate=0.5)
  found = {}
  for row in range(4000):
    if len(source(out, row)) == 5:
      key = tuple(source(out, row)[1:-1])
      found[key] = found.get(key, 0) + 1
  twice = [(MASK, MASK, 8), (7, MASK, MASK)]
  once = [(MASK, 8, MASK), (MASK, 7, MASK)]
  assert set(found) == {*twice, *once}
  # A mask beside another may stand on either side of it.
  counts = [found[twice[0]], found[(MASK, 8, MASK)]]
  share = counts[0] / sum(counts)
  assert abs(share - 2 / 3) < 4 * math.sqrt(2 / 9 / sum(counts))
  rate = sum(found.values()) / 4000
  assert abs(rate - math.exp(-3)) < 4 * math.sqrt(0.05 / 4000)


def test_random_tokens_stand_for_a_share_of_spans():
  rows = rows_of([LENGTH] * 400)
  rows["tokens"][:, 1:-1] = 7
  out = corrupt(rows, random=0.4, rate=0.5)
  inside = out["inputs"][:, 1:-1][out["segments"][:, 1:-1] > 0]
  new = inside[(inside != 7) & (inside != 3)]
  n, wanted = len(new), 0.4 * 54 / 55 / (0.4 * 54 / 55 + 0.6)
  assert abs((new != MASK).mean() - wanted) < 4 * math.sqrt(0.25 / n)
  assert not set(new) & {0, 1, 2}


def sentences(tokens):
  """Lists that end behind the first of a run of stops, or before specials."""
  found, last = [[]], None
  for token in tokens:
    if token < 5:
      found.append([])
    else:
      if last is None:
        found.append([])
      found[-1].append(int(token))
      if token == STOP and last != STOP:
        found.append([])
    last = int(token) if token >= 5 else None
  return [s for s in found if s]


def test_sentences_change_places_and_special_tokens_stay():
  rows = rows_of(COUNTS, stops=0.2)
  tokens = rows["tokens"]
  tokens[:60, 20] = 3  # another document
  fixed = (tokens < 5) | (rows["segments"] == 0)
  ranks = _threefry.ranks(keys_of(np.arange(len(tokens))), 0, LENGTH)
  made = _sentences.permuted(
    tf.constant(tokens),
    tf.constant(fixed),
    tf.constant(tokens == STOP),
    tf.constant(np.arange(LENGTH + 1, dtype=np.int32)),
    ranks,
  ).numpy()
  assert np.array_equal(made[fixed], tokens[fixed])
  changed = 0
  for row, count in enumerate(COUNTS):
    for part in (
      (slice(0, 20), slice(20, count)) if row < 60 else (slice(count),)
    ):
      before, after = sentences(tokens[row, part]), made[row, part]
      rest = [t for t in after.tolist() if t >= 5]
      assert sorted(rest) == sorted(sum(before, []))
      for sentence in before:  # each is there, whole
        assert str(sentence)[1:-1] in str(rest)
    changed += (made[row] != tokens[row]).any()
  assert changed > 60


@pytest.mark.parametrize("share, moved", [(1.0, 4), (0.5, 2), (0.1, 1)])
def test_a_share_of_sentences_changes_places_in_every_order(share, moved):
  """Four sentences of 2 tokens: 24 orders; two of them: 6 pairs, or none."""
  text = np.array([2, 5, STOP, 7, STOP, 8, STOP, 10, STOP, 3])
  rows, batch = np.tile(text, (3000, 1)), 3000
  table = _counts.table(share, 10, "ceil")
  assert table[4] == moved
  made = _sentences.permuted(
    tf.constant(rows, tf.int32),
    tf.constant(rows < 5),
    tf.constant(rows == STOP),
    tf.constant(table),
    _threefry.ranks(keys_of(np.arange(batch)), 0, 10),
  ).numpy()
  assert (made[:, 2::2][:, :4] == STOP).all()
  orders, counts = np.unique(made[:, 1::2], axis=0, return_counts=True)
  if moved == 4:
    assert len(orders) == 24
    assert scipy.stats.chisquare(counts).pvalue > 1e-4
  if moved == 2:
    assert len(orders) == 7  # six swaps, and none half the time
    swaps = (made[:, 1::2] != rows[:, 1::2]).any(1).mean()
    assert abs(swaps - 0.5) < 4 * 0.5 / math.sqrt(batch)
  if moved == 1:
    assert np.array_equal(made, rows)


def test_a_rotated_text_goes_on_at_its_beginning():
  rows = rows_of([10] * 1500)
  rows["tokens"][:, 1:9] = [7, 8, 10, 11, 13, 14, 16, 17]
  out = corrupt(rows, rate=0.01, replace="none", mean_span=0.0, rotate=0.5)
  text, begins = [7, 8, 10, 11, 13, 14, 16, 17], []
  for row in range(1500):
    found = source(out, row)
    assert (found[0], found[-1]) == (2, 3) and len(found) == 9
    (lost,) = set(text) - set(found)
    kept = [t for t in text if t != lost]
    at = kept.index(found[1])
    assert found[1:-1] == kept[at:] + kept[:at]
    begins.append(at)
  turned = np.mean(np.array(begins) > 0)
  assert abs(turned - 0.5 * 6 / 7) < 4 * 0.5 / math.sqrt(1500)


def test_rows_change_with_seed_and_number_alone():
  rows = rows_of(COUNTS, stops=0.1)
  out = corrupt(rows, permute=1.0)
  some = np.random.default_rng(1).permutation(len(COUNTS))[:9]
  part = {k: v[some] for k, v in rows.items()}
  moved = corrupt(part, index=some, permute=1.0)
  assert all(np.array_equal(out[k][some], moved[k]) for k in out)
  other = corrupt(rows, seed=1, permute=1.0)
  assert (other["inputs"] == out["inputs"]).all(1)[:60].sum() < 3
  assert np.array_equal(other["targets"], out["targets"])


@pytest.mark.parametrize(
  "fields, words",
  [
    (dict(rate=0.0), "rate is 0.0"),
    (dict(mean_span=-1.0), "mean_span is -1.0"),
    (dict(unit="words"), "Did you mean 'word'"),
    (dict(replace="all"), "Known: each, none, one"),
    (dict(permute=1.5), "permute is 1.5"),
    (dict(permute=1.0, stops=""), "names no character"),
    (dict(permute=1.0, stops="!"), "no sentence would be found"),
  ],
)
def test_wrong_settings_are_told(fields, words):
  with pytest.raises(UserError, match=words):
    part = corruptions.build(dict(kind="infilling", **fields))
    part.bind(Tokenizer(), LENGTH)


def test_packed_rows_are_refused():
  with pytest.raises(UserError, match="packs several"):
    packed.Packed(files="x", corruption=dict(kind="infilling"))
