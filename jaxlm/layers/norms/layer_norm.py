"""Layer normalization (Ba et al., arXiv:1607.06450), statistics in float32."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.norms import norms


@norms.register("layer_norm", paper="arXiv:1607.06450")
class LayerNorm(nn.Module):
  """x [..., width] -> the same shape, zero mean and unit variance.

  Attributes:
    epsilon: added to the variance.
    use_bias: whether a learned shift is added.
  """

  epsilon: float = 1e-12
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    return nn.LayerNorm(
      epsilon=self.epsilon,
      use_bias=self.use_bias,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      scale_init=primitives.partitioned(nn.initializers.ones, ("embed",)),
      bias_init=primitives.partitioned(nn.initializers.zeros, ("embed",)),
      # E[x^2] - E[x]^2 loses digits where the mean is large.
      use_fast_variance=False,
      name="norm",
    )(x)
