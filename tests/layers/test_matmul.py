"""The fast product of a dense map is the plain one, derivatives included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.layers import matmul

LAST = (((2,), (0,)), ((), ()))


def _plain(x, kernel):
  return jax.lax.dot_general(x, kernel, LAST)


def _fast(x, kernel):
  return matmul.dot_general(x, kernel, LAST)


def _draw(wide):
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (3, 5, 4))
  return x, jax.random.normal(keys[1], (4, wide))


@pytest.mark.parametrize("wide", [2, 4, 9])  # either side may be transposed
def test_gradients(wide):
  x, kernel = _draw(wide)

  def loss(product):
    return lambda x, k: jnp.sum(jnp.sin(product(x, k)))

  np.testing.assert_allclose(_fast(x, kernel), _plain(x, kernel), rtol=1e-6)
  for got, want in zip(
    jax.jit(jax.grad(loss(_fast), (0, 1)))(x, kernel),
    jax.grad(loss(_plain), (0, 1))(x, kernel),
    strict=True,
  ):
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_second_derivatives():
  x, kernel = _draw(3)

  def curvature(product):
    grad = jax.grad(lambda k: jnp.sum(jnp.sin(product(x, k))))
    return jax.jvp(grad, (kernel,), (kernel,))[1]  # as AdaHessian takes it

  np.testing.assert_allclose(
    curvature(_fast), curvature(_plain), rtol=1e-4, atol=1e-5
  )


def test_weight_gradient_needs_no_slow_product():
  # What the module is for: no product contracts the first axis of its left
  # side, which XLA's CPU library refuses.
  x, kernel = _draw(9)
  grad = jax.grad(lambda k: jnp.sum(jnp.sin(_fast(x, k))))
  text = str(jax.make_jaxpr(grad)(kernel))
  assert "optimization_barrier" in text
  assert "((0,), (0,))" not in text and "([0], [0])" not in text


def test_other_products_are_left_alone():
  x, kernel = _draw(3)
  first = (((0,), (0,)), ((), ()))
  got = matmul.dot_general(x[0].T, kernel, first)
  np.testing.assert_allclose(got, x[0] @ kernel, rtol=1e-6)
