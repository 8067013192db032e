"""A scale and a shift in place of a norm (MobileBERT, arXiv:2004.02984)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.norms import norms


@norms.register("no_norm", paper="arXiv:2004.02984")
class NoNorm(nn.Module):
  """scale * x + bias, x [..., width] (section 3.3).

  Needs no statistics, so at inference it folds into the dense map before it.
  """

  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    def parameter(name, init):
      init = primitives.partitioned(init, ("embed",))
      value = self.param(name, init, (x.shape[-1],), self.param_dtype)
      return value.reshape((1,) * (x.ndim - 1) + (-1,)).astype(self.dtype)

    scale = parameter("scale", nn.initializers.ones)
    bias = parameter("bias", nn.initializers.zeros)
    return x.astype(self.dtype) * scale + bias
