"""Gated feed-forward: GEGLU and its kin (Shazeer, arXiv:2002.05202)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.primitives import Initializer


@feedforwards.register(
  "gated", paper="arXiv:2002.05202", example={"hidden": 48, "width": 32}
)
class Gated(nn.Module):
  """W_out (act(W_gate x) * W_up x), x [batch, length, width].

  Gate and value have kernels of their own, so that each splits evenly over
  devices.

  Attributes:
    hidden: width between the maps.
    width: width of the model.
    activation: of the gate; 'gelu' gives GEGLU.
    input_bias: biases of gate and value.
    output_bias: bias of the output.
    dropout: rate before the output map (MosaicBERT's place).
  """

  hidden: int
  width: int
  activation: str = "gelu"
  input_bias: bool = False
  output_bias: bool = False
  dropout: float = 0.0
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx):
    def widen(name):
      return primitives.dense_of(
        self,
        self.hidden,
        ("embed", "mlp"),
        self.initializer.kernel(),
        name,
        use_bias=self.input_bias,
      )(x)

    h = primitives.activation(self.activation)(widen("gate")) * widen("up")
    h = primitives.Dropout(self.dropout)(h, deterministic=not ctx.train)
    return primitives.dense_of(
      self,
      self.width,
      ("mlp", "embed"),
      self.initializer.output(),
      "output",
      use_bias=self.output_bias,
    )(h)
