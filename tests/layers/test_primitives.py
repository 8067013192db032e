"""Initializers, activations, named dense maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxlm.errors import UserError
from jaxlm.layers import primitives
from tests import tiny

SHAPE = (400, 250)


def test_normal_weights_have_their_deviation():
  values = primitives.Initializer(std=0.5).kernel()(jax.random.key(0), SHAPE)
  assert abs(float(values.std()) - 0.5) < 0.005
  assert float(jnp.abs(values).max()) > 1.5


def test_truncated_weights_stay_within_two_deviations():
  """BERT's draw is cut, not rescaled: its deviation is 0.88 of the told."""
  initializer = primitives.Initializer(std=0.02, truncated=True)
  values = np.asarray(initializer.kernel()(jax.random.key(0), SHAPE))
  assert np.abs(values).max() <= 0.04
  expected = 0.02 * stats.truncnorm(-2, 2).std()
  np.testing.assert_allclose(values.std(), expected, rtol=0.01)


def test_gpt2_narrows_what_writes_to_the_stream():
  initializer = primitives.Initializer(std=0.02, scaled_output=True, depth=8)
  values = initializer.output()(jax.random.key(0), SHAPE)
  np.testing.assert_allclose(float(values.std()), 0.02 / 4, rtol=0.01)
  values = initializer.kernel()(jax.random.key(0), SHAPE)
  np.testing.assert_allclose(float(values.std()), 0.02, rtol=0.01)
  values = primitives.Initializer(depth=8).output()(jax.random.key(0), SHAPE)
  np.testing.assert_allclose(float(values.std()), 0.02, rtol=0.01)


def test_gelu_is_exact_and_gelu_tanh_the_approximation():
  x = np.linspace(-4, 4, 41, dtype=np.float32)
  exact = x * 0.5 * (1 + special.erf(x / np.sqrt(2)))
  tanh = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
  gelu = primitives.activation("gelu")(x)
  np.testing.assert_allclose(gelu, exact, atol=1e-6)
  np.testing.assert_allclose(
    primitives.activation("gelu_tanh")(x), tanh, atol=1e-6
  )
  assert np.abs(exact - tanh).max() > 1e-4  # they are not the same


def test_an_unknown_activation_is_told():
  with pytest.raises(UserError, match="'gleu'. Did you mean 'gelu'"):
    primitives.activation("gleu")


def test_dense_names_its_axes():
  dense = primitives.dense(
    6, ("embed", "mlp"), init=primitives.Initializer().kernel()
  )
  boxed = tiny.shapes(dense, jnp.zeros((2, 4)))
  assert tiny.names(boxed) == {
    "params/bias": ("mlp",),
    "params/kernel": ("embed", "mlp"),
  }
