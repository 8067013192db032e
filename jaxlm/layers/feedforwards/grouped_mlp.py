"""Two grouped dense maps with an activation between (ConvBERT, SqueezeBERT)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.grouped import GroupedDense
from jaxlm.layers.primitives import Initializer


@feedforwards.register(
  "grouped_mlp",
  paper="arXiv:2008.02496",
  example={"hidden": 48, "width": 32, "groups": 2},
)
class GroupedMLP(nn.Module):
  """W_out act(W_in x), x [batch, length, width], both maps block-diagonal.

  Attributes:
    hidden: width between the maps.
    width: width of the model.
    groups: blocks of both maps; they divide both widths.
    activation: a name of `primitives.ACTIVATIONS`.
    use_bias: biases of both maps.
  """

  hidden: int
  width: int
  groups: int
  activation: str = "gelu"
  use_bias: bool = True
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx):
    del ctx
    shared = dict(
      groups=self.groups,
      use_bias=self.use_bias,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
    )
    widen = GroupedDense(
      self.hidden,
      axes=("embed", "mlp"),
      kernel_init=self.initializer.kernel(),
      name="input",
      **shared,
    )
    narrow = GroupedDense(
      self.width,
      axes=("mlp", "embed"),
      kernel_init=self.initializer.output(),
      name="output",
      **shared,
    )
    return narrow(primitives.activation(self.activation)(widen(x)))
