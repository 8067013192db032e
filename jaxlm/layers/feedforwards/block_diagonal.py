"""M2-BERT's gated feed-forward of block-diagonal maps (arXiv:2310.12109)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.grouped import GroupedDense


@feedforwards.register(
  "block_diagonal",
  paper="arXiv:2310.12109",
  example={"hidden": 48, "width": 32, "blocks": 4},
)
class BlockDiagonal(nn.Module):
  """W_out (act(W_gate x_1) * W_up x_2), x_1 and x_2 the halves of x.

  As released: one block-diagonal map makes gate and value at once, so the
  first half of its blocks, which reads the first half of the features, makes
  the gate, and the other half the value. The paper describes products of two
  such maps with a permutation between them; the released models have one.
  Kernels start uniform, as wide as those of dense maps times sqrt(blocks).

  Attributes:
    hidden: width between the maps.
    width: width of the model.
    blocks: of each map, even; they divide both widths.
    activation: of the gate; 'gelu' gives GEGLU.
    dropout: rate before the output map.
  """

  hidden: int
  width: int
  blocks: int = 4
  activation: str = "gelu"
  dropout: float = 0.0
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx):
    if self.blocks < 2 or self.blocks % 2:
      raise errors.UserError(
        f"block_diagonal: blocks={self.blocks} do not fall into halves for "
        "gate and value; take an even number."
      )
    first, second = jnp.split(x, 2, axis=-1)
    gate = self._map(self.hidden, self.blocks // 2, "gate")(first)
    value = self._map(self.hidden, self.blocks // 2, "up")(second)
    h = primitives.activation(self.activation)(gate) * value
    h = primitives.Dropout(self.dropout)(h, deterministic=not ctx.train)
    return self._map(self.width, self.blocks, "output")(h)

  def _map(self, features, groups, name):
    output = name == "output"
    inputs = self.hidden if output else self.width
    bound = (self.blocks / inputs) ** 0.5

    def uniform(key, shape, dtype=jnp.float32):
      return jax.random.uniform(key, shape, dtype, -bound, bound)

    return GroupedDense(
      features,
      groups=groups,
      axes=("mlp", "embed") if output else ("embed", "mlp"),
      kernel_init=uniform,
      use_bias=output,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name=name,
    )
