"""Second derivatives: the references have them, kernels say who has."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.dynamic_convolution import dynamic_convolution
from pallas_kernels.flash_attention import flash_attention

KERNELS = ("triton:interpret", "mosaic_tpu:interpret")
SEGMENTS = np.repeat([[1, 2, 0]], [9, 5, 2], axis=1).astype(np.int32)


def _attention_loss(implementation, x):
  out = flash_attention(
    x, x, jnp.sin(x), segments=SEGMENTS, implementation=implementation
  )
  return jnp.sum(out**2)


def _convolution_loss(implementation, x):
  out = dynamic_convolution(
    x, x[..., :5], segments=SEGMENTS, implementation=implementation
  )
  return jnp.sum(out**2)


def _forward_over_reverse(loss, x, v):
  return jax.jvp(jax.grad(loss), (x,), (v,))[1]


def _reverse_over_reverse(loss, x, v):
  return jax.grad(lambda x: jnp.sum(jax.grad(loss)(x) * v))(x)


def _drawn():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.standard_normal((2, 1, 16, 2, 8)), jnp.float32)


@pytest.mark.parametrize("implementation", KERNELS)
@pytest.mark.parametrize(
  "product", [_forward_over_reverse, _reverse_over_reverse]
)
@pytest.mark.parametrize(
  "loss, instead",
  [
    (_attention_loss, "'reference' or 'chunked'"),
    (_convolution_loss, "'reference'"),
  ],
)
def test_kernels_name_what_has_them(loss, instead, product, implementation):
  loss = functools.partial(loss, implementation)
  run = jax.jit(functools.partial(product, loss))
  reason = f"no second derivatives; implementation={instead} has"
  with pytest.raises(NotImplementedError, match=reason):
    run.trace(*_drawn())


@pytest.mark.parametrize(
  "loss, implementation",
  [
    (_attention_loss, "reference"),
    pytest.param(_attention_loss, "chunked", marks=pytest.mark.slow),
    (_convolution_loss, "reference"),
  ],
)
def test_what_is_named_has_them(loss, implementation):
  loss = functools.partial(loss, implementation)
  x, v = _drawn()
  found = jax.jit(functools.partial(_forward_over_reverse, loss))(x, v)
  # Central differences of the gradient.
  gradient, step = jax.jit(jax.grad(loss)), 1e-2
  sides = [gradient(x + sign * step * v) for sign in (1, -1)]
  expected = (sides[0] - sides[1]) / (2 * step)
  error = jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected)
  assert float(error) < 1e-3
