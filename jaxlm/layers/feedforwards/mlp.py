"""Two dense maps with an activation between them (BERT, GPT-2)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.primitives import Initializer


@feedforwards.register(
  "mlp", paper="arXiv:1706.03762", example={"hidden": 48, "width": 32}
)
class MLP(nn.Module):
  """W_out act(W_in x), x [batch, length, width].

  Attributes:
    hidden: width between the maps.
    width: width of the model.
    activation: a name of `primitives.ACTIVATIONS`.
    use_bias: biases of both maps.
    dropout: rate before the output map (T5's and BART's place).
  """

  hidden: int
  width: int
  activation: str = "gelu"
  use_bias: bool = True
  dropout: float = 0.0
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx):
    shared = dict(
      use_bias=self.use_bias, dtype=self.dtype, param_dtype=self.param_dtype
    )
    h = primitives.dense(
      self.hidden,
      ("embed", "mlp"),
      init=self.initializer.kernel(),
      name="input",
      **shared,
    )(x)
    h = primitives.activation(self.activation)(h)
    h = primitives.Dropout(self.dropout)(h, deterministic=not ctx.train)
    return primitives.dense(
      self.width,
      ("mlp", "embed"),
      init=self.initializer.output(),
      name="output",
      **shared,
    )(h)
