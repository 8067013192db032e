"""AdaHessian: closed forms on quadratics, its estimate and averages."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm.errors import UserError
from jaxlm.optimizers import adahessian as lib
from jaxlm.optimizers import optimizers

CURVATURE = np.array([1.0, 10.0, 100.0, 0.1])
START = np.array([1.0, -1.0, 0.5, 2.0])


def build(**given):
  rate = lambda _: jnp.asarray(0.15)  # a number would be rounded to float32
  return optimizers.build(
    dict(kind="adahessian", learning_rate=rate, eps=1e-4, **given)
  )


def descend(tx, steps):
  params = {"x": jnp.asarray(START)}
  grad = lambda p: {"x": CURVATURE * p["x"]}
  state, trail = tx.init(params), []
  for _ in range(steps):
    updates, state = tx.update(grad(params), state, params, grad_fn=grad)
    params = optax.apply_updates(params, updates)
    trail.append(np.asarray(params["x"]))
  return np.stack(trail)


def test_the_sheets_golden_trajectory():
  """a = (1, 10, 100, .1), x0 = (1, -1, .5, 2), rate .15, eps 1e-4."""
  with jax.enable_x64(True):
    trail = descend(build(), 5)
  first = [0.8500149985, 0.7118697342, 0.5853021382, 0.4700113826, 0.3656595778]
  np.testing.assert_allclose(trail[:, 0], first, rtol=1e-9)
  last = [0.3656595778, -0.3656122983, 0.182803785, 0.7322639932]
  np.testing.assert_allclose(trail[-1], last, rtol=1e-9)


def test_the_golden_trajectory_at_half_the_power():
  last = [0.3656595778, 0.3513885981, 0.1165117008, 1.549829341]
  with jax.enable_x64(True):
    trail = descend(build(hessian_power=0.5), 5)
  np.testing.assert_allclose(trail[-1], last, rtol=1e-9)


@pytest.mark.parametrize("interval", [1, 2, 3])
def test_constant_curvature_is_found_at_any_interval(interval):
  tx = lib.scale_by_adahessian(0.9, 0.999, 0.0, 1.0, interval, 1, "none", 0)
  params = {"x": jnp.float32(START)}
  hessian = lambda p: {"x": CURVATURE * p["x"]}
  state = tx.init(params)
  for _ in range(7):
    updates, state = tx.update(
      {"x": jnp.float32(CURVATURE)}, state, params, grad_fn=hessian
    )
    # mean gradient / curvature = CURVATURE / CURVATURE
    np.testing.assert_allclose(updates["x"], 1.0, rtol=2e-5)
  assert int(state.estimates) == -(-7 // interval)


def loss(params):
  hidden = jnp.tanh(params["layer"]["kernel"] @ jnp.float32([0.3, -1.0, 0.8]))
  return jnp.sum(jnp.sin(hidden * params["layer"]["bias"]) ** 2)


def problem():
  draw = np.random.Generator(np.random.Philox(1)).standard_normal
  kernel, bias = draw((2, 3)), draw(2)
  return {"layer": dict(kernel=jnp.float32(kernel), bias=jnp.float32(bias))}


def test_the_estimate_tends_to_the_diagonal():
  """The variance is the sum of squares off the diagonal, over the samples."""
  params = problem()
  flat, back = jax.flatten_util.ravel_pytree(params)
  hessian = jax.jit(jax.hessian(lambda x: loss(back(x))))(flat)
  off = hessian - jnp.diag(jnp.diag(hessian))
  samples = 2000
  estimate = lambda n: jax.jit(
    lambda p: lib.hutchinson(jax.grad(loss), p, jax.random.key(0), n)
  )(params)
  found = estimate(samples)
  found = jax.flatten_util.ravel_pytree(found)[0]
  deviation = jnp.sqrt(jnp.sum(off**2, axis=1) / samples)
  assert (jnp.abs(found - jnp.diag(hessian)) < 5 * deviation + 1e-5).all()
  once = estimate(1)
  assert not np.allclose(jax.flatten_util.ravel_pytree(once)[0], found)


def test_equal_leaves_draw_other_signs():
  rows = jnp.float32(np.random.Generator(np.random.Philox(2)).normal(size=64))
  params = {"a": jnp.zeros(64), "b": jnp.zeros(64)}
  # H couples all of a leaf: z * (H z) = z_i * sum(rows * z) * rows_i.
  grad = lambda p: jax.tree.map(lambda x: rows * jnp.sum(rows * x), p)
  found = lib.hutchinson(grad, params, jax.random.key(0))
  assert not np.allclose(found["a"], found["b"])


def test_curvature_is_averaged_over_inputs():
  draw = np.random.Generator(np.random.Philox(3)).standard_normal
  tree = {
    "kernel": jnp.float32(draw((6, 4))),
    "bias": jnp.float32(draw(4)),
    "table": jnp.float32(draw((5, 4))),
    "loop": {"kernel": jnp.float32(draw((2, 6, 4)))},
    "conv": {"kernel": jnp.float32(draw((3, 6, 4)))},
  }
  found = lib._averaged(tree, "inputs")
  mean = lambda x, axis: np.abs(x).mean(axis, keepdims=True)
  np.testing.assert_allclose(
    found["kernel"], mean(tree["kernel"], 0), rtol=1e-6
  )
  np.testing.assert_allclose(found["table"], mean(tree["table"], 1), rtol=1e-6)
  np.testing.assert_array_equal(found["bias"], np.abs(tree["bias"]))
  looped = tree["loop"]["kernel"]
  np.testing.assert_allclose(
    found["loop"]["kernel"], mean(looped, 1), rtol=1e-6
  )
  assert found["conv"]["kernel"].shape == (1, 6, 4)


def test_blocks_of_inputs_with_a_shorter_last_one():
  x = {"kernel": jnp.arange(10.0).reshape(5, 2)}
  found = lib._averaged(x, 2)["kernel"]
  np.testing.assert_allclose(found, [[1, 2], [5, 6], [8, 9]])
  spread = lib._spread(found, (5, 2), 2)
  np.testing.assert_allclose(spread, np.asarray(found)[[0, 0, 1, 1, 2]])


def test_scaling_the_loss_leaves_newton_steps_alone():
  tx = build()
  params = problem()

  def step(scale):
    grad = jax.grad(lambda p: scale * loss(p))
    return tx.update(grad(params), tx.init(params), params, grad_fn=grad)[0]

  one, many = step(1.0), step(1e4)
  # Only eps tells them apart.
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many)):
    np.testing.assert_allclose(a, b, rtol=2e-2)


def test_without_the_gradients_function_it_says_what_is_missing():
  tx = build()
  params = problem()
  with pytest.raises(ValueError, match="grad_fn"):
    tx.update(params, tx.init(params), params)


def test_bad_options_are_refused():
  with pytest.raises(UserError, match="average"):
    build(average="input")
  with pytest.raises(UserError, match="interval=0"):
    build(interval=0)
