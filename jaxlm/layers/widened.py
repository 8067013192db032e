"""A layer behind another of unlike width (FlexiBERT, arXiv:2205.11656)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.primitives import Initializer


class Widened(nn.Module):
  """layer(W x + b): x [batch, length, before] -> [batch, length, width].

  No norm and no activation: the layer before ends in its norm, and this one's
  residual begins at W x + b.

  Attributes:
    layer: a block of `width`.
    width: of the layer.
  """

  layer: nn.Module
  width: int
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx):
    return self.layer(
      primitives.dense(
        self.width,
        ("embed", "mlp"),
        init=self.initializer.kernel(),
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name="projection",
      )(x),
      ctx,
    )

  @property
  def mixer(self) -> nn.Module:
    """The layer's."""
    return self.layer.mixer
