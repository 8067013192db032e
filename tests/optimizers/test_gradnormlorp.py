"""GradNormLoRP's directions, magnitudes and states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.optimizers import galore, gradnormlorp
from tests.optimizers.common import build, draw, same, walk


def normalised(v, g):
  return g * v / jnp.linalg.norm(v, axis=-2, keepdims=True)


def test_its_gradients_are_those_of_the_normalised_matrix():
  w, slope = draw(5, 3), draw(5, 3, seed=1)
  g = jnp.linalg.norm(w, axis=0, keepdims=True)
  loss = lambda v, g: jnp.sum(jnp.sin(normalised(v, g)) * slope)
  direction, magnitude = gradnormlorp.gradients(
    w, jax.grad(lambda w: jnp.sum(jnp.sin(w) * slope))(w)
  )
  expected = jax.grad(loss, (0, 1))(w, g)
  same((direction, magnitude), expected, 2e-6)
  np.testing.assert_allclose(jnp.sum(direction * w, 0), 0, atol=2e-6)


def test_one_step_by_hand():
  """Adam's first step is a sign, in the subspace and of the magnitudes."""
  params = {"kernel": draw(5, 6), "bias": draw(6)}
  grads = {"kernel": draw(5, 6, seed=1), "bias": draw(6, seed=1)}
  tx = build(kind="gradnormlorp", rank=2, scale=0.5, eps=1e-12)
  step, _ = tx.update(grads, tx.init(params), params)
  w = params["kernel"]
  direction, magnitude = gradnormlorp.gradients(w, grads["kernel"])
  basis = galore.leading(direction, 2)
  v = w - 0.1 * 0.5 * basis @ jnp.sign(basis.T @ direction)
  g = jnp.linalg.norm(w, axis=0, keepdims=True) - 0.1 * jnp.sign(magnitude)
  same(step["kernel"], normalised(v, g) - w, 2e-5)
  same(step["bias"], -0.1 * jnp.sign(grads["bias"]), 1e-6)


def test_directions_and_magnitudes_move_apart():
  params = {"loop": {"kernel": draw(2, 5, 6)}}
  grad = lambda p: jax.tree.map(jnp.sin, p)
  lengths = lambda p: jnp.linalg.norm(p["loop"]["kernel"], axis=-2)
  turn = lambda p: p["loop"]["kernel"] / lengths(p)[:, None]
  still = walk(
    build(kind="gradnormlorp", rank=2, magnitude_rate=0.0), params, grad
  )
  same(lengths(still), lengths(params), 1e-6)
  assert jnp.abs(turn(still) - turn(params)).max() > 0.01
  grown = walk(build(kind="gradnormlorp", rank=2, scale=0.0), params, grad)
  same(turn(grown), turn(params), 1e-6)
  assert jnp.abs(lengths(grown) - lengths(params)).max() > 0.01


def test_an_output_of_length_0_learns():
  params = {"kernel": draw(5, 6).at[:, 2].set(0.0)}
  grad = lambda p: jax.tree.map(lambda x: x - 1.0, p)
  found = walk(build(kind="gradnormlorp", rank=2), params, grad)
  assert np.isfinite(found["kernel"]).all()
  assert (jnp.abs(found["kernel"][:, 2]) > 1e-3).all()


def test_its_states_are_as_small_as_the_formula():
  """One-sided: 2 l r of moments, s r of bases, 2 outputs; 8 bits: a quarter."""
  rows, columns, rank = 256, 512, 32
  params = {"kernel": jnp.zeros((rows, columns))}
  values = 2 * columns * rank + rows * rank + 2 * columns
  nbytes = lambda tx: sum(x.nbytes for x in jax.tree.leaves(tx.init(params)))
  tx = build(kind="gradnormlorp", rank=rank)
  assert nbytes(tx) == 4 * values + 4 + 4 + 4  # three counts
  small = build(kind="gradnormlorp", rank=rank, eight_bit=True)
  adam = 2 * rows * columns * 4 + 8
  moments = 2 * columns * rank
  assert nbytes(small) == pytest.approx(
    moments * (1 + 4 / 256) + 4 * (values - moments), rel=1e-2
  )
  assert nbytes(small) < 0.2 * adam
