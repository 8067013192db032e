"""Several dense maps on end, one residual around them all (FlexiBERT)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.primitives import Initializer


@feedforwards.register(
  "stacked",
  paper="arXiv:2205.11656",
  example={"widths": (48, 40), "width": 32},
)
class Stacked(nn.Module):
  """W_out act(W_k ... act(W_1 x)), x [batch, length, width].

  Attributes:
    widths: of the hidden states, one a map before the last: (512, 512, 512)
      has four maps and three activations.
    width: width of the model.
    activation: a name of `primitives.ACTIVATIONS`.
    use_bias: biases of all maps.
  """

  widths: tuple[int, ...]
  width: int
  activation: str = "gelu"
  use_bias: bool = True
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx):
    del ctx
    if not self.widths:
      raise errors.UserError(
        "feedforward 'stacked' needs a width in 'widths', such as (512, 512)."
      )
    act = primitives.activation(self.activation)
    for number, width in enumerate(self.widths):
      x = act(self._dense(f"input_{number}", width, ("embed", "mlp"))(x))
    return self._dense(
      "output", self.width, ("mlp", "embed"), self.initializer.output()
    )(x)

  def _dense(self, name, features, axes, init=None):
    return primitives.dense_of(
      self,
      features,
      axes,
      init or self.initializer.kernel(),
      name,
      use_bias=self.use_bias,
    )
