"""LAMB, Muon, Sophia, SOAP and Shampoo: what they do to a matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg

from tests.optimizers.common import build, draw, same, walk


def test_lamb_is_that_of_optax_where_everything_adapts():
  params = {"kernel": draw(3, 4), "bias": draw(4)}
  grad = lambda p: jax.tree.map(jnp.sin, p)
  mine = build(kind="lamb", decay="all", adapt="all")
  same(
    walk(mine, params, grad),
    walk(
      optax.with_extra_args_support(optax.lamb(0.1, weight_decay=0.01)),
      params,
      grad,
    ),
    2e-6,
  )


def test_lamb_scales_scanned_layers_one_by_one():
  layer = {"kernel": draw(3, 4)}
  both = {"loop": {"kernel": jnp.stack([layer["kernel"], 5 * layer["kernel"]])}}
  grad = lambda p: jax.tree.map(jnp.sin, p)
  tx = build(kind="lamb")
  found = walk(tx, both, grad, 2)["loop"]["kernel"]
  same(found[0], walk(tx, layer, grad, 2)["kernel"], 1e-6)


def test_muon_is_that_of_optax_and_makes_momentum_orthogonal():
  params = {"stack": {"kernel": draw(6, 4)}, "table": draw(5, 4)}
  grad = lambda p: jax.tree.map(jnp.sin, p)
  mine = build(kind="muon", weight_decay=0.0)
  theirs = optax.with_extra_args_support(
    optax.contrib.muon(0.1, consistent_rms=0.2)
  )
  alone = {"kernel": params["stack"]["kernel"]}
  found = walk(mine, params, grad)
  same(found["stack"], walk(theirs, alone, grad), 1e-6)
  adam = walk(build(kind="adamw", weight_decay=0.0), params, grad)
  same(found["table"], adam["table"], 1e-6)
  step, _ = mine.update(params, mine.init(params), params)
  values = jnp.linalg.svd(step["stack"]["kernel"], compute_uv=False)
  # The iteration's five steps leave singular values around 1.
  np.testing.assert_allclose(values / (0.1 * 0.2 * 6**0.5), 1.0, atol=0.35)


def test_muon_treats_scanned_layers_one_by_one():
  layers = [draw(6, 4), 3.0 * draw(6, 4, seed=1)]
  tx = build(kind="muon")
  grad = lambda p: jax.tree.map(jnp.sin, p)
  both = {"stack": {"loop": {"kernel": jnp.stack(layers)}}}
  found = walk(tx, both, grad)["stack"]["loop"]["kernel"]
  for i, layer in enumerate(layers):
    alone = walk(tx, {"stack": {"kernel": layer}}, grad)["stack"]["kernel"]
    same(found[i], alone, 1e-6)


def test_sophia_is_a_clipped_newton_step_where_the_curvature_is_known():
  curvature = jnp.float32([1.0, 4.0])
  tx = build(kind="sophia", gamma=1.0, b1=0.0, b2=0.0, interval=1, clip=2.0)
  params = {"x": jnp.float32([1.0, 2.0])}
  grad = lambda p: {"x": curvature * p["x"]}
  state = tx.init(params)
  # The first curvature comes after the first step, which is a sign.
  step, state = tx.update(grad(params), state, params, grad_fn=grad)
  np.testing.assert_allclose(step["x"], [-0.2, -0.2], rtol=1e-6)
  step, state = tx.update(grad(params), state, params, grad_fn=grad)
  np.testing.assert_allclose(step["x"], [-0.1, -0.2], rtol=1e-6)


def test_soap_finds_its_bases_first_and_is_then_adam_in_them():
  g, h = draw(4, 6), draw(4, 6, seed=1)
  params = {"stack": {"kernel": draw(4, 6, seed=2)}}
  tx = build(kind="soap", weight_decay=0.0, eps=1e-12, refresh=10)
  wrap = lambda x: {"stack": {"kernel": x}}
  state = tx.init(params)
  step, state = tx.update(wrap(g), state, params)
  assert (step["stack"]["kernel"] == 0).all()
  step, _ = tx.update(wrap(h), state, params)
  left = jnp.linalg.eigh(g @ g.T)[1]
  right = jnp.linalg.eigh(g.T @ g)[1]
  # Adam's first step is a sign, here in the eigenbasis of the first gradient;
  # of a rank of 4, the 2 other right vectors are any that complete the basis.
  turned = jnp.linalg.svd(step["stack"]["kernel"] / -0.1, compute_uv=False)
  known = jnp.sign(left.T @ h @ right[:, 2:])
  kept = left.T @ (step["stack"]["kernel"] / -0.1) @ right[:, 2:]
  same(kept, known, 2e-4)
  np.testing.assert_allclose(jnp.sum(turned**2), 24.0, rtol=1e-4)


def test_first_step_of_shampoo_is_the_orthogonal_factor():
  """L^(-1/4) G R^(-1/4) of G = U S V^T, with L and R of G alone, is U V^T."""
  params = {"layer": {"kernel": jnp.zeros((3, 5))}}
  draw = np.random.default_rng(5).normal(size=(3, 5))
  grads = {"layer": {"kernel": jnp.asarray(draw, jnp.float32)}}
  given = dict(learning_rate=1.0, weight_decay=0.0, matrix_eps=1e-12)
  tx = build(kind="shampoo", graft=False, **given)
  left, _, right = np.linalg.svd(draw, full_matrices=False)
  found = tx.update(grads, tx.init(params), params)[0]["layer"]["kernel"]
  np.testing.assert_allclose(found, -left @ right, atol=2e-3)
  # Grafted it is as long as RMSProp's: signs, at the first step.
  tx = build(kind="shampoo", **given)
  found = tx.update(grads, tx.init(params), params)[0]["layer"]["kernel"]
  expected = -left @ right * np.sqrt(15 / 3)
  np.testing.assert_allclose(found, expected, atol=2e-3)


def test_shampoo_is_that_of_the_paper():
  """Algorithm 1, in float64 and with scipy's powers of matrices."""
  draw = np.random.default_rng(6).normal(size=(4, 3, 5))
  tx = build(
    kind="shampoo",
    learning_rate=0.1,
    weight_decay=0.0,
    b1=0.0,
    graft=False,
    refresh=1,
    matrix_eps=1e-2,
  )
  params = {"layer": {"kernel": jnp.zeros((3, 5))}}
  state, expected = tx.init(params), np.zeros((3, 5))
  left, right = 1e-2 * np.eye(3), 1e-2 * np.eye(5)
  root = lambda x: scipy.linalg.fractional_matrix_power(x, -0.25)
  for g in draw:
    left, right = left + g @ g.T, right + g.T @ g
    expected -= 0.1 * root(left) @ g @ root(right)
    grads = {"layer": {"kernel": jnp.asarray(g, jnp.float32)}}
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(params["layer"]["kernel"], expected, atol=2e-5)
