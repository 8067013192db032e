"""Root-mean-square normalization (arXiv:1910.07467), statistics in float32."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.norms import norms


@norms.register("rms_norm", paper="arXiv:1910.07467")
class RMSNorm(nn.Module):
  """x [..., width] -> the same shape, unit root mean square.

  Attributes:
    epsilon: added to the mean square.
  """

  epsilon: float = 1e-6
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    return nn.RMSNorm(
      epsilon=self.epsilon,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      scale_init=primitives.partitioned(nn.initializers.ones, ("embed",)),
      name="norm",
    )(x)
