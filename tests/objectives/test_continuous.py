"""Losses of continuous outputs, against closed forms and slow loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxlm import errors
from jaxlm.objectives import continuous_vmf, objectives
from tests import tiny
from tests.layers.test_word_outputs import shifted

WIDTH = tiny.WIDTH
# Every kind, by name, for tests/objectives/test_objectives.py: they are
# kind="continuous_cosine", kind="continuous_l2", kind="continuous_margin" and
# kind="continuous_vmf".
KINDS = [k for k in objectives.kinds() if k.startswith("continuous_")]
EVERY = pytest.mark.parametrize("kind", KINDS)
WAYS = pytest.mark.parametrize("ways", [1, 2])
# log C and A = I_(m/2)/I_(m/2 - 1) of m = 300, of the sheet (mpmath).
GOLDENS = {
  0.1: (427.606823831, 3.333332965e-4),
  1: (427.60517384, 0.003333296542),
  10: (427.440265676, 0.03329662204),
  50: (423.495661125, 0.1623038533),
  100: (411.747713184, 0.302916257),
  300: (314.299585662, 0.6185436959),
  1000: (-230.967738305, 0.8615503155),
}


class Fixed:
  """A model whose parameters are its outputs."""

  def apply(self, variables, batch, *, train=False, rngs=None):
    return variables["params"]


def predictions(ways, seed=0, scale=1.0):
  shape = (tiny.BATCH, tiny.LENGTH, *(2,) * (ways - 1), WIDTH)
  rng = np.random.default_rng(seed)
  return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)


def run(kind, found, batch, ways, train=False, **fields):
  objective = objectives.build(dict(kind=kind, directions=ways, **fields))
  outcome = objective(
    Fixed(), {"params": {"continuous": found}}, batch, None, train=train
  )
  return objective, outcome


def pairs(batch, ways):
  """(row, place, way, word before or behind, its vector); the slow way."""
  inputs, segments = batch["inputs"], batch["segments"]
  for row in range(tiny.BATCH):
    for t in range(tiny.LENGTH):
      for way, other in enumerate((t + 1, t - 1)[:ways]):
        if not 0 <= other < tiny.LENGTH or not segments[row, t]:
          continue
        if segments[row, other] == segments[row, t]:
          word = inputs[row, other]
          yield row, t, way, word, tiny.word_vectors(word).astype(np.float64)


def at(found, row, t, way, ways):
  value = np.asarray(found, np.float64)[row, t]
  return value if ways == 1 else value[way]


def cos(a, b):
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def slow(kind, mine, target, word, row, batch):
  """The paper's formula for one word, in float64."""
  if kind == "continuous_cosine":
    return 1 - cos(mine, target)
  if kind == "continuous_l2":
    return np.sum((mine - target) ** 2)
  if kind == "continuous_vmf":
    k, order = np.linalg.norm(mine), WIDTH / 2 - 1
    log_c = order * np.log(k) - WIDTH / 2 * np.log(2 * np.pi)
    log_c -= np.log(special.ive(order, k)) + k
    return -log_c - mine @ target
  others = [w for w in set(batch["inputs"][row]) if w not in (word, 0)]
  vectors = tiny.word_vectors(np.array(others)).astype(np.float64)
  told = [cos(mine, v) - cos(target, v) for v in vectors]
  wrong = vectors[int(np.argmax(told))]
  return max(0.0, 0.5 + cos(mine, wrong) - cos(mine, target))


@EVERY
@WAYS
def test_losses_are_the_papers_over_neighbours_inside_documents(kind, ways):
  batch, found = shifted(), predictions(ways)
  objective, outcome = run(kind, found, batch, ways)
  total, near, count = 0.0, 0.0, 0
  for row, t, way, word, target in pairs(batch, ways):
    mine = at(found, row, t, way, ways)
    total += slow(kind, mine, target, word, row, batch)
    near += cos(mine, target)
    count += 1
  assert objective.weights(batch)["continuous"] == count
  np.testing.assert_allclose(outcome.sums["continuous"], total, rtol=2e-5)
  np.testing.assert_allclose(outcome.metrics["cosine"][0], near, atol=1e-4)
  assert outcome.metrics["cosine"][1] == count


@WAYS
def test_nearest_in_row_counts_what_beats_the_rows_other_words(ways):
  batch = shifted()
  exact = np.zeros((tiny.BATCH, tiny.LENGTH, ways, WIDTH), np.float32)
  right = count = 0
  for row, t, way, word, target in pairs(batch, ways):
    wrong = [w for w in set(batch["inputs"][row]) if w not in (word, 0)][0]
    good = (row + t + way) % 3 > 0
    exact[row, t, way] = target if good else tiny.word_vectors(wrong)
    right, count = right + good, count + 1
  exact = exact if ways == 2 else exact[:, :, 0]
  _, outcome = run("continuous_cosine", jnp.asarray(exact), batch, ways)
  assert outcome.metrics["nearest_in_row"] == (right, count)
  _, outcome = run("continuous_cosine", jnp.asarray(exact), batch, ways, True)
  assert set(outcome.metrics) == {"cosine"}


@EVERY
@WAYS
def test_nothing_is_learned_of_the_vectors(kind, ways):
  batch = shifted()
  value = lambda v: run(
    kind, predictions(ways), dict(batch, word_vectors=v), ways
  )[1].sums["continuous"]
  gradient = jax.grad(value)(jnp.asarray(batch["word_vectors"]))
  assert not np.asarray(gradient).any()


@EVERY
def test_gradients_are_finite_where_predictions_vanish_or_are_huge(kind):
  batch = shifted()
  for scale in (0.0, 1e3):
    value, gradient = jax.value_and_grad(
      lambda f: run(kind, f, batch, 1)[1].sums["continuous"]
    )(predictions(1, scale=scale))
    assert np.isfinite(value) and np.isfinite(np.asarray(gradient)).all()


@EVERY
def test_sums_of_halves_are_the_sum_of_the_whole(kind):
  batch, found = shifted(), predictions(1)
  half = lambda tree, i: jax.tree.map(lambda a: a[i : i + 1], tree)
  parts = [run(kind, half(found, i), half(batch, i), 1)[1] for i in (0, 1)]
  whole = run(kind, found, batch, 1)[1].sums["continuous"]
  both = parts[0].sums["continuous"] + parts[1].sums["continuous"]
  np.testing.assert_allclose(both, whole, rtol=1e-5)


def test_cosine_loss_sees_directions_alone():
  batch, found = shifted(), predictions(1)
  loss = lambda f: run("continuous_cosine", f, batch, 1)[1].sums["continuous"]
  np.testing.assert_allclose(loss(found), loss(7.0 * found), rtol=1e-5)
  perfect = jnp.asarray(batch["word_vectors"][:, 1:])
  assert abs(float(loss(perfect))) < 1e-4
  slope = jax.grad(loss)(found)  # at right angles to the prediction
  np.testing.assert_allclose(jnp.sum(slope * found, -1), 0.0, atol=1e-5)


@pytest.mark.parametrize("kappa", GOLDENS)
def test_normaliser_goldens(kappa):
  log_c, ratio = GOLDENS[kappa]
  of = lambda k: continuous_vmf.log_normalizer(k * k, 300)
  assert float(of(jnp.float32(kappa))) == pytest.approx(log_c, abs=1e-4)
  slope = float(jax.grad(of)(jnp.float32(kappa)))
  assert slope == pytest.approx(-ratio, rel=1e-6)
  with jax.enable_x64(True):
    assert float(of(jnp.float64(kappa))) == pytest.approx(log_c, abs=1e-9)


@pytest.mark.parametrize("width", [20, 50, 100, 300, 768])
def test_normaliser_is_scipys_where_scipy_has_numbers(width):
  order = width / 2 - 1
  kappa = np.array([1e-3, 0.5, 5.0, 30.0, 90.0, 200.0, 800.0])
  with np.errstate(divide="ignore"):
    bessel = np.log(special.ive(order, kappa)) + kappa
  log_c = order * np.log(kappa) - width / 2 * np.log(2 * np.pi) - bessel
  there = np.isfinite(log_c)
  assert there.sum() >= 3
  found = continuous_vmf.log_normalizer(jnp.asarray(kappa**2), width)
  np.testing.assert_allclose(
    np.asarray(found)[there], log_c[there], rtol=2e-7, atol=5e-5
  )
  # At 0 the density is one over the area of the sphere.
  area = np.log(2) + width / 2 * np.log(np.pi) - special.gammaln(width / 2)
  zero = continuous_vmf.log_normalizer(jnp.float32(0.0), width)
  assert float(zero) == pytest.approx(-area, rel=2e-6, abs=1e-5)


def test_regularisers_weigh_the_norm_and_the_dot():
  batch, found = shifted(), predictions(1)
  loss = lambda **f: float(
    run("continuous_vmf", found, batch, 1, **f)[1].sums["continuous"]
  )
  norms = np.linalg.norm(np.asarray(found), axis=-1)
  dots = np.sum(np.asarray(found) * batch["word_vectors"][:, 1:], -1)
  kept = batch["weights"]
  expected = loss() + 0.02 * np.sum(norms * kept)
  assert loss(norm=0.02) == pytest.approx(expected, rel=1e-5)
  expected = loss() + 0.9 * np.sum(dots * kept)
  assert loss(dot=0.1) == pytest.approx(expected, rel=1e-5)


def test_mistakes_are_told():
  batch = shifted()
  with pytest.raises(errors.UserError, match="directions must be the same"):
    run("continuous_cosine", predictions(1), batch, 2)
  narrow = dict(batch, word_vectors=batch["word_vectors"][..., :10])
  with pytest.raises(errors.UserError, match="of 20 numbers or more"):
    run("continuous_vmf", predictions(1)[..., :10], narrow, 1)
