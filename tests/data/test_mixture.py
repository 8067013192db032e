"""Prefix language modelling, and mixtures of corruptions such as UL2's."""

import numpy as np
import pytest
import scipy.stats

from configs import ul2
from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import (
  _lengths,
  _mixture,
  _threefry,
  corruptions,
)
from jaxlm.errors import UserError
from tests.data import fakes

LENGTH = 24
TOKENIZER = fakes.SentinelTokenizer()
A, B, C = (TOKENIZER.token_to_id(t) for t in ("[A]", "[B]", "[C]"))
SPANS = dict(kind="span_corruption")
DENSE = dict(kind="span_corruption", density=0.5)
REST = dict(kind="prefix_lm")
PARTS = dict(
  r=dict(rate=2, prefix="[A]", corruption=SPANS),
  s=dict(rate=1, prefix="[C]", corruption=REST),
  x=dict(rate=1, prefix="[B]", corruption=DENSE),
)


def keys_of(index, seed=0):
  return _threefry.row_keys(
    tf.constant(seed, tf.int64),
    tf.constant(index, tf.int64),
    tf.zeros(len(index), tf.int64),
  )


def rows_of(counts, width):
  """Texts of these lengths, of tokens that tell their place."""
  real = np.arange(width)[None] < np.asarray(counts)[:, None]
  tokens = np.where(real, 5 + np.arange(width)[None] % 58, 0)
  return {
    "tokens": tokens.astype(np.int32),
    "segments": real.astype(np.int32),
  }


def corrupt(spec, counts, index=None, seed=0, length=LENGTH):
  part = corruptions.build(spec)
  rows = rows_of(counts, part.text_length(length))
  index = np.arange(len(counts)) if index is None else index
  apply = part.bind(TOKENIZER, length)
  out = apply(
    {k: tf.constant(v) for k, v in rows.items()}, keys_of(index, seed)
  )
  out = {k: v.numpy() for k, v in out.items()}
  for key, (shape, dtype) in part.features(length).items():
    assert out[key].shape == (len(counts), *shape), key
    assert out[key].dtype == dtype, key
  return part, rows["tokens"], out


def sides(out, row):
  """Real tokens of inputs and targets, without their EOS."""
  source = out["inputs"][row][out["segments"][row] > 0].tolist()
  target = out["targets"][row][out["weights"][row] > 0].tolist()
  if source:
    assert source.pop() == target.pop() == 3
  return source, target


def spliced(source, target):
  """The text that sentinels stand in, put together again."""
  hidden, last = {}, None
  for token in target:
    if token >= TOKENIZER.last_sentinel:
      last = token
    hidden.setdefault(last, [])
    hidden[last] += [token] * (token != last)
  return [t for s in source for t in hidden.get(s, [s])]


def test_a_prefix_and_its_rest_are_the_text():
  counts = [LENGTH] * 20 + list(range(LENGTH + 1))
  part, tokens, out = corrupt(REST, counts)
  assert part.target_length(LENGTH) == LENGTH
  for row, count in enumerate(counts):
    source, target = sides(out, row)
    assert source + target == tokens[row, :count].tolist()
    assert (len(source) > 0) == (count > 1)
    assert (len(target) > 0) == (count > 0)
  before = np.pad(out["targets"][:, :-1], ((0, 0), (1, 0)))
  real = out["decoder_segments"] > 0
  assert np.array_equal(out["decoder_inputs"], np.where(real, before, 0))


@pytest.mark.parametrize("density, shortest", [(0.5, 1), (0.25, 12)])
def test_prefixes_are_uniform(density, shortest):
  """1 .. n - 1 at density 0.5, as in T5; from the middle on at 0.25."""
  spec = REST | dict(density=density)
  _, _, out = corrupt(spec, [LENGTH] * 2000)
  found = (out["segments"] > 0).sum(1) - 1
  counts = np.bincount(found, minlength=LENGTH)
  assert counts[:shortest].sum() == 0 and len(counts) == LENGTH
  assert scipy.stats.chisquare(counts[shortest:]).pvalue > 1e-4


def test_each_row_takes_one_part_and_its_text_is_put_together_again():
  spec = dict(kind="mixture", parts=PARTS)
  width = corruptions.build(spec).text_length(LENGTH)
  takes = {
    token: corruptions.build(part).text_length(LENGTH - 1)
    for token, part in {A: SPANS, B: DENSE, C: REST}.items()
  }
  assert width == max(takes.values()) == takes[B] == 33
  counts = [width] * 300 + list(range(width + 1)) * 2
  part, tokens, out = corrupt(spec, counts)
  assert part.features(LENGTH)["targets"][0] == (LENGTH - 1,)  # the rest's
  for row, count in enumerate(counts):
    source, target = sides(out, row)
    if not count:
      assert source == target == []
      continue
    kind = source.pop(0)
    whole = source + target if kind == C else spliced(source, target)
    text = tokens[row, :count].tolist()
    size = min(count, takes[kind])
    begins = text.index(whole[0])
    assert len(whole) == size and whole == text[begins : begins + size]
  full = slice(0, 300)
  kinds = out["inputs"][full, 0]
  found = [int((kinds == p).sum()) for p in (A, B, C)]
  assert scipy.stats.chisquare(found, [150, 75, 75]).pvalue > 1e-4
  # Inputs of spans are full whatever the part; what is behind is padding.
  assert (out["segments"][full][kinds != C] == 1).all()
  padding = out["segments"] == 0
  assert not out["inputs"][padding].any()
  assert not out["positions"][padding].any()
  assert not out["decoder_inputs"][out["decoder_segments"] == 0].any()


def test_a_row_of_a_mixture_depends_on_its_number_alone():
  spec = dict(kind="mixture", parts=PARTS)
  counts = [33] * 40
  _, _, out = corrupt(spec, counts)
  order = np.random.default_rng(0).permutation(40)[:11]
  _, _, moved = corrupt(spec, [33] * 11, index=order)
  for key in out:
    assert np.array_equal(out[key][order], moved[key]), key
  _, _, other = corrupt(spec, counts, seed=1)
  assert (other["inputs"] == out["inputs"]).all(1).sum() < 4


def test_windows_begin_anywhere():
  rows = rows_of([20] * 2000 + [6], 32)
  keys = keys_of(np.arange(2001))
  made = _mixture.window(
    {k: tf.constant(v) for k, v in rows.items()}, keys, 32, 12
  )
  tokens = made["tokens"].numpy()
  assert (np.diff(tokens[:2000], axis=1) == 1).all()
  starts = np.bincount(tokens[:2000, 0] - 5, minlength=9)
  assert len(starts) == 9  # 20 - 12 + 1
  assert scipy.stats.chisquare(starts).pvalue > 1e-4
  assert tokens[2000].tolist() == [5, 6, 7, 8, 9, 10] + [0] * 6


def test_masked_rows_mix_without_prefixes():
  """Parts of any family whose features are the same, at their own sizes."""
  parts = dict(
    few=dict(rate=1, corruption=dict(kind="masking", rate=0.15)),
    many=dict(rate=1, corruption=dict(kind="masking", rate=0.4)),
  )
  _, tokens, out = corrupt(dict(kind="mixture", parts=parts), [LENGTH] * 64)
  assert out["predict_ids"].shape == (64, 10)  # ceil(0.4 * 24)
  found = out["predict_weights"].sum(1)
  assert set(found) == {4.0, 10.0}
  rebuilt = out["inputs"].copy()
  for row in range(64):
    n = int(found[row])
    places = out["predict_positions"][row, :n]
    rebuilt[row, places] = out["predict_ids"][row, :n]
  assert np.array_equal(rebuilt, tokens)


def test_the_mixture_of_ul2():
  """Shares of its classes, and the longest text and targets of its table."""
  parts = ul2.get_config("base").data.corruption.to_dict()["parts"]
  shares = {}
  for part in parts.values():
    shares[part["prefix"]] = shares.get(part["prefix"], 0) + part["rate"]
  assert shares == pytest.approx({"[NLU]": 0.4, "[NLG]": 0.4, "[S2S]": 0.2})
  spans = [
    p["corruption"] for p in parts.values() if "mean_span" in p["corruption"]
  ]
  table = [(s["mean_span"], s["density"]) for s in spans]
  assert sorted(table) == [
    (3, 0.15), (3, 0.5), (8, 0.15), (8, 0.5), (64, 0.15), (64, 0.5),
  ]  # fmt: skip
  part = corruptions.build(ul2.get_config("base").data.corruption.to_dict())
  assert part.text_length(513) == 1006  # of (512, 0.5, 64), and a prefix


@pytest.mark.parametrize("variant", ul2.SIZES)
def test_ul2_has_a_sentinel_for_every_span(variant):
  config = ul2.get_config(variant)
  length = config.data.length - 1  # and a prefix
  spans = []
  for part in config.data.corruption.to_dict()["parts"].values():
    if part["corruption"]["kind"] == "span_corruption":
      built = corruptions.build(part["corruption"])
      text = built.text_length(length)
      spans.append(_lengths.counts(text, built.density, built.mean_span)[1])
  assert max(spans) <= config.tokenizer.sentinels


@pytest.mark.parametrize(
  "parts, words",
  [
    ({}, "needs parts"),
    ([1], "needs parts"),
    (dict(a=dict(rate=1)), "parts.a is"),
    (dict(a=dict(rate=0, corruption=REST)), "rate is 0"),
    (dict(a=dict(rat=1, corruption=REST)), "Did you mean 'rate'"),
    (dict(a=dict(rate=1, corruption=dict(kind="span"))), "span_corruption"),
    (
      dict(a=PARTS["r"], b=dict(rate=1, corruption=dict(kind="masking"))),
      "one objective cannot read both",
    ),
    (
      dict(a=dict(rate=1, prefix="[A]", corruption=dict(kind="masking"))),
      "prefixes are for",
    ),
    (
      dict(a=dict(rate=1, prefix="[D]", corruption=REST)),
      r"tokenizer.extra=\('\[D\]',\)",
    ),
  ],
)
def test_wrong_parts_are_told(parts, words):
  with pytest.raises(UserError, match=words):
    corruptions.build(dict(kind="mixture", parts=parts)).bind(TOKENIZER, LENGTH)


@pytest.mark.parametrize("density", [0.0, 0.6, "half"])
def test_wrong_densities_are_told(density):
  with pytest.raises(UserError, match="density is"):
    corruptions.build(REST | dict(density=density))
