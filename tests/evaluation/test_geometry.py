"""Spread of vectors against closed forms, loops and scikit-learn."""

import jax
import numpy as np
import pytest
import sklearn.decomposition

from jaxlm.errors import UserError
from jaxlm.evaluation import flow, geometry, whitening


def gaussian(rows, width, seed=0):
  return np.random.default_rng(seed).standard_normal((rows, width))


def skewed(rows=200, width=6):
  """Correlated, off the origin."""
  rng = np.random.default_rng(1)
  mixed = gaussian(rows, width) @ rng.standard_normal((width, width))
  return mixed + rng.standard_normal(width)


def test_pairs_one_by_one(monkeypatch):
  monkeypatch.setattr(geometry, "_AT_ONCE", 7)  # several blocks, one of them 1
  x = skewed(22)
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  pairs = [(a, b) for i, a in enumerate(unit) for b in unit[:i]]
  cosine = np.mean([a @ b for a, b in pairs])
  assert geometry.mean_cosine(x) == pytest.approx(cosine, abs=1e-12)
  for t in (1.0, 2.0):
    far = [np.exp(-t * np.sum((a - b) ** 2)) for a, b in pairs]
    assert geometry.uniformity(x, t) == pytest.approx(np.log(np.mean(far)))
  apart = np.mean([np.sum((a - b) ** 2) for a, b in zip(unit[1:], unit)])
  assert geometry.alignment(x[1:], 3.0 * x[:-1]) == pytest.approx(apart)


def test_even_points_on_a_sphere():
  # On the circle and the sphere the mean of exp(4 cos) is known:
  # I_0(4) and sinh(4) / 4.
  circle = np.log(np.exp(-4.0) * np.i0(4.0))
  sphere = np.log(np.exp(-4.0) * np.sinh(4.0) / 4.0)
  assert geometry.uniform_sphere(2) == pytest.approx(circle, abs=1e-9)
  assert geometry.uniform_sphere(3) == pytest.approx(sphere, abs=1e-12)
  assert geometry.uniform_sphere(768) == pytest.approx(-3.9895835, abs=1e-7)
  found = geometry.uniformity(gaussian(1500, 64))
  assert found == pytest.approx(geometry.uniform_sphere(64), abs=2e-3)


def test_measures_of_an_isotropic_gaussian():
  rows, width = 2048, 64
  x = gaussian(rows, width)
  found = geometry.measures(x)
  pairs = rows * (rows - 1) / 2
  assert abs(found["mean_cosine"]) < 4 / np.sqrt(pairs)
  expected = width / (1 + width / rows)
  assert found["participation_ratio"] == pytest.approx(expected, rel=0.03)
  assert 0.95 * width < found["effective_rank"] <= width
  # Z of a Gaussian is exp of half its variance along c.
  values = np.linalg.eigvalsh(x.T @ x / rows)
  expected = np.exp((values[0] - values[-1]) / 2)
  assert found["isotropy"] == pytest.approx(expected, rel=0.1)


def test_measures_of_a_line_and_of_a_point():
  line = np.outer(np.linspace(1.0, 9.0, 40), [3.0, -4.0, 0.0])
  found = geometry.measures(line)
  assert found["mean_cosine"] == pytest.approx(1.0)
  assert found["uniformity"] == pytest.approx(0.0, abs=1e-9)
  assert found["participation_ratio"] == pytest.approx(1.0)
  assert found["effective_rank"] == pytest.approx(1.0)
  assert found["isotropy"] < 1e-6
  assert geometry.participation_ratio(np.ones((4, 3))) == 0.0


def test_rotations_change_nothing():
  x = skewed()
  rotation, _ = np.linalg.qr(gaussian(6, 6, seed=2))
  for name, value in geometry.measures(x @ rotation).items():
    assert value == pytest.approx(geometry.measures(x)[name], rel=1e-9), name


def test_self_similarity_is_a_mean_over_sentences():
  sentences = [skewed(5), skewed(3), skewed(1)]  # one token has no pair
  expected = np.mean([geometry.mean_cosine(x) for x in sentences[:2]])
  assert geometry.self_similarity(sentences) == pytest.approx(expected)


def test_whitening_is_that_of_scikit_learn():
  x = skewed()
  for keep in (0, 3):
    found = whitening.fit(x, keep)(x)
    np.testing.assert_allclose(np.cov(found.T), np.eye(keep or 6), atol=1e-9)
    pca = sklearn.decomposition.PCA(keep or None, whiten=True).fit(x)
    wanted = pca.transform(x)
    signs = np.sign(np.sum(found * wanted, axis=0))
    np.testing.assert_allclose(found * signs, wanted, atol=1e-9)


def test_directions_without_variance_are_left_out():
  x = skewed(4)  # four vectors span three directions around their mean
  found = whitening.fit(x)
  assert found.matrix.shape == (6, 3)
  np.testing.assert_allclose(np.cov(found(x).T), np.eye(3), atol=1e-9)
  with pytest.raises(UserError, match="keep is 7; vectors of 6"):
    whitening.fit(x, 7)
  with pytest.raises(UserError, match="All vectors are one"):
    whitening.fit(np.ones((3, 2)))


def drawn(steps=3, width=5, hidden=7):
  rng = np.random.default_rng(0)
  params = flow.initial(rng, steps, width, hidden)
  params = {
    k: 0.5 * rng.standard_normal(v.shape).astype(np.float32)
    for k, v in params.items()
  }
  turns = [np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in "abc"]
  return params, np.stack(turns).astype(np.float32)


def test_a_flow_is_invertible_and_knows_its_determinant():
  params, rotations = drawn()
  x = gaussian(9, 5).astype(np.float32)
  z, determinant = flow.forward(params, rotations, x)
  np.testing.assert_allclose(flow.backward(params, rotations, z), x, atol=1e-4)
  one = lambda x: flow.forward(params, rotations, x[None])[0][0]
  slow = [np.linalg.slogdet(jax.jacfwd(one)(row))[1] for row in x]
  np.testing.assert_allclose(determinant, slow, atol=1e-4)


def test_a_flow_whitens_a_gaussian():
  """Nats of a Gaussian end at its entropy, and what comes out is standard."""
  rng = np.random.default_rng(3)
  mixing = rng.standard_normal((4, 4))
  x = (gaussian(3000, 4) @ mixing).astype(np.float32)
  # Of the standardised vectors, which the flow reads.
  correlation = np.corrcoef(x.T)
  entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * correlation)[1]
  found = flow.fit(x, steps=6, hidden=32, updates=600, rate=5e-3)
  assert found.losses[0] > entropy + 1.0
  last = np.mean(found.losses[-50:])
  assert last == pytest.approx(entropy, abs=0.1)
  z = found(x)
  np.testing.assert_allclose(np.cov(z.T), np.eye(4), atol=0.15)
  np.testing.assert_allclose(found.inverse(z), x, atol=2e-3)
