import math

import numpy as np
import pytest

from jaxlm import errors
from jaxlm.evaluation import _model, likelihood
from jaxlm.evaluation import pseudo_likelihood as module
from tests.evaluation import toys

SENTENCES = [
  "the cats ran .",
  "a",
  "the dogs , cats sat a b c d e f g h i j k l .",
  "running cats",
]


@pytest.fixture(scope="module")
def masked():
  return toys.masked()


@pytest.fixture(scope="module")
def causal():
  return toys.causal()


def _log_softmax(x):
  x = np.asarray(x, np.float64)
  x = x - x.max()
  return x - np.log(np.exp(x).sum())


def _brute_force(loaded, sentence, masks_of):
  """One unpadded forward for each token."""
  tokenizer = loaded.tokenizer
  own = tokenizer.encode(sentence)
  ids = [2, *own, 3]
  starts = [not tokenizer.id_to_token(i).startswith("##") for i in own]
  words = np.cumsum(starts)
  scores = []
  for token in range(len(own)):
    row = list(ids)
    for other in range(len(own)):
      if masks_of(token, other, words):
        row[1 + other] = tokenizer.mask_id
    logits = toys.forward(loaded, row, "masked_lm")[1 + token]
    scores.append(_log_softmax(logits)[own[token]])
  return np.array(scores)


RULES = {
  "original": lambda t, o, w: o == t,
  "within_word_l2r": lambda t, o, w: o >= t and w[o] == w[t],
  "whole_word": lambda t, o, w: w[o] == w[t],
}


@pytest.mark.parametrize("variant", module.VARIANTS)
def test_equals_brute_force(masked, variant):
  found = module.pll(masked, SENTENCES, variant=variant, rows=5)
  slow = [
    _brute_force(masked, sentence, RULES[variant]) for sentence in SENTENCES
  ]
  np.testing.assert_allclose(found, [s.sum() for s in slow], rtol=1e-5)
  mean = module.pll(
    masked, SENTENCES, variant=variant, reduction="mean", rows=5
  )
  np.testing.assert_allclose(mean, [s.mean() for s in slow], rtol=1e-5)


def test_variants_differ_only_where_a_word_has_several_pieces(masked):
  plain = module.pll(masked, SENTENCES, rows=5)
  l2r = module.pll(masked, SENTENCES, variant="within_word_l2r", rows=5)
  same = plain == l2r
  assert same[1]  # "a" is one piece
  assert not same[0]  # "cats" is two


def test_mask_sets_goldens():
  # systems/goldens.md 14.2, places counted from the first own token.
  words = [0, 1, 1, 1, 2]
  assert module.mask_sets(words, "original") == [[0], [1], [2], [3], [4]]
  assert module.mask_sets(words, "within_word_l2r") == [
    [0],
    [1, 2, 3],
    [2, 3],
    [3],
    [4],
  ]
  assert module.mask_sets(words, "whole_word") == [
    [0],
    [1, 2, 3],
    [1, 2, 3],
    [1, 2, 3],
    [4],
  ]


def test_uniform_scores_give_minus_n_log_v():
  tokenizer, vocab = toys.wordpiece(), 50
  seen = []

  def uniform(inputs, segments, positions, predict_positions):
    seen.append((inputs.shape, predict_positions.shape))
    assert inputs.dtype == segments.dtype == positions.dtype == np.int32
    return np.full((len(inputs), vocab), -math.log(vocab), np.float32)

  done = []
  scores = module.token_scores(
    uniform,
    tokenizer,
    ["a b c", "a b"],
    rows=4,
    progress=lambda *at: done.append(at),
  )
  totals = module.reduce(scores)
  np.testing.assert_allclose(totals, [-3 * math.log(50), -2 * math.log(50)])
  assert set(seen) == {((4, 8), (4, 1))}  # one static shape
  assert done == [(4, 5), (5, 5)]
  assert module.pseudo_perplexity(scores) == pytest.approx(50)


def test_a_model_that_ignores_context_gives_the_unigram_sum():
  tokenizer = toys.wordpiece()
  table = np.log(np.random.default_rng(0).dirichlet(np.ones(30)))
  scores = module.token_scores(
    lambda inputs, *_: np.tile(table, (len(inputs), 1)), tokenizer, SENTENCES
  )
  expected = [table[ids].sum() for ids in tokenizer.encode_batch(SENTENCES)]
  np.testing.assert_allclose(module.reduce(scores), expected)


def test_pseudo_perplexity_is_of_the_corpus():
  scores = [np.array([-2.5, -3.5]), np.array([-1.0, -1.0])]
  assert module.pseudo_perplexity(scores) == pytest.approx(7.389, abs=1e-3)


def test_special_tokens_in_a_text_are_text(masked):
  found = module.pll(masked, ["a [MASK] b"], rows=5)
  ids = masked.tokenizer.encode("a [MASK] b")
  assert masked.tokenizer.mask_id not in ids
  assert np.isfinite(found).all()


def test_bad_input(masked, causal):
  with pytest.raises(errors.UserError, match=r"Sentence 1 \(''\) holds no tok"):
    module.pll(masked, ["a", ""])
  with pytest.raises(errors.UserError, match="42 tokens.*32 positions"):
    module.pll(masked, ["a " * 40])
  with pytest.raises(errors.UserError, match="Did you mean 'whole_word'"):
    module.pll(masked, ["a"], variant="wholeword")
  with pytest.raises(errors.UserError, match="reduction 'max'"):
    module.pll(masked, ["a"], reduction="max")
  with pytest.raises(errors.UserError, match="head 'masked_lm'; .* causal_lm"):
    module.pll(causal, ["a"])
  with pytest.raises(errors.UserError, match="without a tokenizer"):
    module.pll(masked._replace(tokenizer=None), ["a"])


def test_calling_again_compiles_nothing(masked):
  module.pll(masked, SENTENCES, rows=5)
  before = module._log_probs._cache_size()
  module.pll(masked, SENTENCES[::-1], rows=5)
  assert module._log_probs._cache_size() == before


def test_buckets_are_few_and_never_pass_the_positions():
  lengths = {_model.bucket(n) for n in range(1, 513)}
  assert len(lengths) <= 24
  for n in range(1, 513):
    assert n <= _model.bucket(n) <= max(8, n + 7, n * 1.25)
    assert n <= _model.bucket(n, 512) <= 512
  assert _model.bucket(100, 100) == 100


def _left_to_right(loaded, sentence):
  own = loaded.tokenizer.encode(sentence)
  row = [loaded.tokenizer.bos_id, *own]
  logits = toys.forward(loaded, row[:-1], "causal_lm")
  return [_log_softmax(logits[i])[token] for i, token in enumerate(own)]


def test_log_likelihood_equals_brute_force(causal):
  sentences = ["the cat sat", "a", "a b c d e f g h i j k l", "sat cat the"]
  slow = [_left_to_right(causal, sentence) for sentence in sentences]
  found = likelihood.log_likelihood(causal, sentences, rows=2)
  np.testing.assert_allclose(found, [sum(s) for s in slow], rtol=1e-5)
  mean = likelihood.log_likelihood(causal, sentences, reduction="mean", rows=2)
  np.testing.assert_allclose(mean, [np.mean(s) for s in slow], rtol=1e-5)
  # 32 tokens fill the 32 positions: the last token is scored, never read.
  [full] = likelihood.log_likelihood(causal, ["a " * 32], rows=2)
  assert full == pytest.approx(sum(_left_to_right(causal, "a " * 32)), 1e-5)
  with pytest.raises(errors.UserError, match="33 tokens.*32 positions"):
    likelihood.log_likelihood(causal, ["a " * 33])
  with pytest.raises(errors.UserError, match="holds no token"):
    likelihood.log_likelihood(causal, [" "])


def test_probabilities_of_all_texts_sum_to_one(causal):
  # All texts of two words, and those that end after none or one.
  words = causal.tokenizer.pieces[1:]
  two = [f"{a} {b}" for a in words for b in words]
  total = np.exp(likelihood.log_likelihood(causal, two)).sum()
  start = _log_softmax(toys.forward(causal, [0], "causal_lm")[0])
  total += math.exp(start[0])
  for word in words:
    [token] = causal.tokenizer.encode(word)
    after = _log_softmax(toys.forward(causal, [0, token], "causal_lm")[1])
    total += math.exp(start[token] + after[0])
  assert total == pytest.approx(1, abs=1e-5)


def test_rows_within_memory():
  assert _model.rows_within(32, 1000) == 64
  assert _model.rows_within(512, 50_257) == 2
  assert _model.rows_within(8192, 250_000) == 1
