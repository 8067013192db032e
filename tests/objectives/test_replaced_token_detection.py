"""Replaced token detection over given logits: samples, labels, losses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxlm.errors import UserError
from jaxlm.objectives import objectives

VOCAB, LENGTH = 5, 6
TEXT = np.array([[1, 2, 3, 4, 1, 0], [2, 2, 4, 3, 0, 0]], np.int32)
REAL = np.array([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0]], np.int32)
KEY = jax.random.key(0)


class Fixed:
  """A model whose parameters are its outputs; remembers what it read."""

  def apply(self, variables, batch, *, tower, train=False, rngs=None):
    assert ("dropout" in rngs) == train
    self.read = getattr(self, "read", {}) | {tower: batch["inputs"]}
    return variables["params"][tower]


def batch():
  """Two tokens of row 0 to predict, one of row 1 and a padded one."""
  places = np.array([[1, 3], [2, 0]], np.int32)
  weights = np.array([[1, 1], [1, 0]], np.float32)
  ids = np.where(weights, TEXT[np.arange(2)[:, None], places], 0)
  inputs = TEXT.copy()
  inputs[0, 1], inputs[1, 2] = 0, 0  # 0 masks; token 3 of row 0 was kept
  return dict(
    inputs=inputs,
    segments=REAL,
    predict_positions=places,
    predict_ids=ids.astype(np.int32),
    predict_weights=weights,
  )


def certain(ids):
  """Logits of a generator that is sure of tokens [2, 2]."""
  return 1e4 * jax.nn.one_hot(jnp.asarray(ids), VOCAB)


def run(logits, scores, **fields):
  detect = objectives.build({"kind": "replaced_token_detection", **fields})
  model = Fixed()
  params = dict(
    generator=dict(masked_lm=jnp.asarray(logits, jnp.float32)),
    discriminator=dict(replaced_token=jnp.asarray(scores)[..., None]),
  )
  outcome = detect(model, {"params": params}, batch(), KEY, train=False)
  return detect, outcome, np.asarray(model.read["discriminator"])


def test_samples_take_the_place_of_what_was_hidden_or_kept():
  _, outcome, read = run(certain([[3, 1], [4, 2]]), np.zeros((2, LENGTH)))
  expected = TEXT.copy()
  expected[0, 1], expected[0, 3] = 3, 1  # wrong twice
  np.testing.assert_array_equal(read, expected)  # row 1: right, so as it was
  rate = outcome.metrics["replaced_rate"]
  assert (float(rate[0]), float(rate[1])) == (2.0, 9.0)


def test_a_generator_that_is_right_replaces_nothing():
  _, outcome, read = run(certain([[2, 4], [4, 2]]), np.full((2, LENGTH), -2.0))
  np.testing.assert_array_equal(read, TEXT)
  assert float(outcome.metrics["replaced_rate"][0]) == 0.0
  assert float(outcome.metrics["generator_accuracy"][0]) == 3.0
  assert float(outcome.metrics["discriminator_accuracy"][0]) == 9.0
  assert float(outcome.metrics["replaced_recall"][1]) == 0.0
  loss = 9 * math.log1p(math.exp(-2.0))
  np.testing.assert_allclose(outcome.sums["replaced_token"], loss, rtol=1e-6)


def test_the_loss_is_the_binary_cross_entropy_of_all_real_tokens():
  scores = np.random.default_rng(1).normal(size=(2, LENGTH)).astype(np.float32)
  detect, outcome, read = run(certain([[3, 4], [1, 2]]), scores)
  labels = read != TEXT
  assert labels.sum() == 2
  chance = 1 / (1 + np.exp(-scores.astype(np.float64)))
  losses = -np.log(np.where(labels, chance, 1 - chance))
  np.testing.assert_allclose(
    outcome.sums["replaced_token"], losses[REAL > 0].sum(), rtol=1e-6
  )
  said, real = scores > 0, REAL > 0
  hits = (said & labels & real).sum()
  expected = {
    "discriminator_accuracy": ((said == labels)[real].sum(), 9),
    "replaced_rate": (2, 9),
    "replaced_recall": (hits, 2),
    "replaced_precision": (hits, (said & real).sum()),
  }
  for name, pair in expected.items():
    assert tuple(map(float, outcome.metrics[name])) == pair, name
  weights = detect.weights(batch())
  assert {k: float(v) for k, v in weights.items()} == {
    "masked_lm": 3.0,
    "replaced_token": 9.0,
  }
  assert detect.coefficients == {"replaced_token": 50.0}


def test_at_the_start_the_second_term_is_ln_2():
  # The sheet: the total is about ln V + 50 ln 2.
  detect, outcome, _ = run(np.zeros((2, 2, VOCAB)), np.zeros((2, LENGTH)))
  weights = detect.weights(batch())
  terms = {t: float(s / weights[t]) for t, s in outcome.sums.items()}
  assert terms["masked_lm"] == pytest.approx(math.log(VOCAB), rel=1e-6)
  assert terms["replaced_token"] == pytest.approx(math.log(2), rel=1e-6)


def test_samples_follow_the_softmax():
  rows = 4000
  logits = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05]))
  detect = objectives.build({"kind": "replaced_token_detection"})
  many = dict(
    inputs=np.zeros((rows, 1), np.int32),
    predict_positions=np.zeros((rows, 1), np.int32),
    predict_ids=np.ones((rows, 1), np.int32),
    predict_weights=np.ones((rows, 1), np.float32),
  )
  given = jnp.broadcast_to(jnp.asarray(logits)[None, None], (rows, 1, VOCAB))
  tokens, replaced = detect.replace(given, many, KEY)
  counts = np.bincount(np.asarray(tokens)[:, 0], minlength=VOCAB)
  found = scipy.stats.chisquare(counts, rows * np.exp(logits))
  assert found.pvalue > 1e-4
  np.testing.assert_array_equal(replaced, np.asarray(tokens) != 1)


def test_temperature_and_samples_that_must_be_wrong():
  logits = np.tile(np.array([0.0, 0.1, 0.4, 0.2, 0.3]), (2, 2, 1))
  cold, _ = objectives.build(
    {"kind": "replaced_token_detection", "temperature": 1e-4}
  ).replace(logits, batch(), KEY)
  wrong, replaced = objectives.build(
    {
      "kind": "replaced_token_detection",
      "temperature": 1e-4,
      "disallow_correct": True,
    }
  ).replace(logits, batch(), KEY)
  assert [cold[0, 1], cold[0, 3], cold[1, 2]] == [2, 2, 2]
  # The largest logit but that of the text's own token: 2, 4 and 4.
  assert [wrong[0, 1], wrong[0, 3], wrong[1, 2]] == [4, 2, 2]
  assert int(replaced.sum()) == 3


def test_no_gradient_passes_through_the_samples():
  scores = jnp.ones((2, LENGTH))

  def judged(logits):
    return run_terms(logits, scores)["replaced_token"]

  def filled(scores):
    return run_terms(jnp.zeros((2, 2, VOCAB)), scores)["masked_lm"]

  assert not np.any(jax.grad(judged)(jnp.ones((2, 2, VOCAB))))
  assert not np.any(jax.grad(filled)(scores))


def run_terms(logits, scores):
  detect = objectives.build({"kind": "replaced_token_detection"})
  params = dict(
    generator=dict(masked_lm=logits),
    discriminator=dict(replaced_token=scores[..., None]),
  )
  return detect(Fixed(), {"params": params}, batch(), KEY, train=False).sums


def test_a_temperature_of_0_is_told():
  with pytest.raises(UserError, match="temperature is 0.0"):
    objectives.build({"kind": "replaced_token_detection", "temperature": 0.0})
