"""SAM, ASAM and FSAM on quadratics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm.optimizers import fsam, sam
from tests.optimizers.common import build, draw, same, walk


def quadratic(p):
  return {"x": jnp.float32([1.0, 4.0]) * p["x"]}


def test_sam_on_a_quadratic_is_its_closed_form():
  params = {"x": jnp.float32([1.0, 2.0])}
  grad = quadratic(params)["x"]
  tx = build(kind="sam", rho=0.3, base=dict(kind="adamw", weight_decay=0.0))
  seen = []
  spy = lambda p: seen.append(p["x"]) or quadratic(p)
  tx.update(quadratic(params), tx.init(params), params, grad_fn=spy)
  unit = grad / jnp.linalg.norm(grad)
  np.testing.assert_allclose(seen[0], params["x"] + 0.3 * unit, rtol=1e-6)


def test_a_radius_of_zero_is_the_base():
  params = {"x": jnp.float32([1.0, 2.0])}
  base = dict(kind="adamw")
  none = walk(build(kind="sam", rho=0.0, base=base), params, quadratic)
  same(none, walk(build(**base), params, quadratic))


def test_asam_does_not_see_scale():
  """f = (w1 w2 - 1)^2 at (2, .3) and (10, .06): the sheet's numbers."""
  loss = lambda p: (p["w"][0] * p["w"][1] - 1.0) ** 2

  def worst(w, **options):
    params = {"w": jnp.float32(w)}
    step = sam.perturbation(jax.grad(loss)(params), params, 0.1, **options)
    return float(loss({"w": params["w"] + step["w"]}))

  near, far = [2.0, 0.3], [10.0, 0.06]
  assert worst(near, adaptive=True) == pytest.approx(0.2321821341, rel=1e-5)
  assert worst(far, adaptive=True) == pytest.approx(0.2321821341, rel=1e-5)
  assert worst(near) == pytest.approx(0.361, abs=1e-3)
  assert worst(far) == pytest.approx(1.960, abs=1e-3)


def test_plain_steps_lie_between_perturbed_ones():
  params, calls = {"x": jnp.float32([1.0, 2.0])}, []
  grad = lambda p: {"x": 2.0 * p["x"]}
  tx = build(kind="sam", rho=0.5, interval=3, base=dict(kind="adamw", b1=0.0))
  state = tx.init(params)
  count = lambda p: jax.debug.callback(lambda: calls.append(1)) or grad(p)
  for _ in range(7):
    _, state = tx.update(grad(params), state, params, grad_fn=count)
  jax.effects_barrier()
  assert len(calls) == 3


def squares(p, rows):
  """A Fisher that is known: the square of the weights."""
  del rows
  return jax.tree.map(jnp.square, p)


def step_of(tx, params, grad, **extra):
  seen = []
  spy = lambda p: seen.append(p) or grad(p)
  step, state = tx.update(
    grad(params), tx.init(params), params, grad_fn=spy, fisher_fn=squares
  )
  return step, state, jax.tree.map(lambda a, b: a - b, seen[0], params)


def test_fsam_perturbs_the_largest_of_the_fisher_alone():
  params = {"a": jnp.float32([1.0, -4.0]), "b": jnp.float32([[3.0], [0.5]])}
  grad = lambda p: jax.tree.map(lambda x: 2.0 * x, p)
  base = dict(kind="adamw", weight_decay=0.0)
  tx = build(kind="fsam", rho=0.3, keep=0.5, base=base)
  _, state, moved = step_of(tx, params, grad)
  assert state.mask["a"].tolist() == [False, True]
  assert state.mask["b"].tolist() == [[True], [False]]
  size = 2.0 * float(optax.tree.norm(params))  # of the whole gradient
  np.testing.assert_allclose(moved["a"], [0, 0.3 * -8 / size], atol=1e-6)
  np.testing.assert_allclose(moved["b"], [[0.3 * 6 / size], [0]], atol=1e-6)
  whole = build(kind="fsam", rho=0.3, renormalize=True, base=base)
  _, _, moved = step_of(whole, params, grad)
  assert float(optax.tree.norm(moved)) == pytest.approx(0.3, rel=1e-5)


def test_fsam_is_sam_with_all_and_its_base_with_none():
  params = {"a": draw(5), "b": draw(3, 2)}
  grad = lambda p: jax.tree.map(jnp.sin, p)
  base = dict(kind="adamw")

  def end(tx):
    state, p = tx.init(params), params
    for _ in range(3):
      given = dict(grad_fn=grad, fisher_fn=squares)
      updates, state = tx.update(grad(p), state, p, **given)
      p = optax.apply_updates(p, updates)
    return p

  every = end(build(kind="fsam", keep=1.0, base=base))
  same(every, end(build(kind="sam", base=base)))
  same(end(build(kind="fsam", keep=0.0, base=base)), end(build(**base)))


@pytest.mark.parametrize("keep", [0.1, 0.37, 0.9])
def test_the_share_that_is_kept_is_exact_without_ties(keep):
  tree = {"a": jnp.square(draw(300)), "b": jnp.square(draw(70, 10, seed=1))}
  mask = fsam.largest(tree, keep)
  values = np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
  kept = np.concatenate([np.ravel(x) for x in jax.tree.leaves(mask)])
  assert kept.sum() == int(keep * 1000)
  assert values[kept].min() > values[~kept].max()


def test_zeros_are_never_kept():
  tree = {"a": jnp.float32([0.0, 0.0, 0.0, 2.0])}
  assert fsam.largest(tree, 0.75)["a"].tolist() == [False] * 3 + [True]
  zeros = {"a": jnp.zeros(4)}
  assert not fsam.largest(zeros, 0.5)["a"].any()
