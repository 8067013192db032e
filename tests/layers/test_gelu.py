"""The exact GELU against its definition, and its slope."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxlm.layers import primitives


def test_is_x_times_the_normal_distribution():
  x = np.linspace(-9, 9, 181)
  want, slope = x * stats.norm.cdf(x), stats.norm.cdf(x) + x * stats.norm.pdf(x)
  got = primitives.gelu(jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=5e-7)
  got = jax.vmap(jax.grad(primitives.gelu))(jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(got, slope, rtol=1e-6, atol=5e-7)


def test_float64_and_bfloat16():
  x = np.linspace(-5, 5, 101)
  with jax.enable_x64(True):
    got = primitives.gelu(jnp.asarray(x, jnp.float64))
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, x * stats.norm.cdf(x), atol=1e-14)
  half = jnp.asarray(x, jnp.bfloat16)
  got = primitives.gelu(half)
  assert got.dtype == jnp.bfloat16
  exact = np.float64(half) * stats.norm.cdf(np.float64(half))
  # As close as bfloat16 can be, in the tail too.
  np.testing.assert_allclose(np.float64(got), exact, rtol=2**-8, atol=1e-6)
