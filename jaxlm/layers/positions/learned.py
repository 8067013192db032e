"""A learned row for each position, added to the embeddings (BERT, GPT-2)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.positions import positions
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer


@positions.register(
  "learned", paper="arXiv:1810.04805", example={"max_length": 64}
)
class LearnedPositions(Positions):
  """Adds table[position + offset].

  Attributes:
    max_length: positions that the table can tell apart.
    offset: unused rows before position 0; 2 in RoBERTa, whose first rows
      belong to its padding token.
  """

  max_length: int = 512
  offset: int = 0
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def at_input(self, x, ctx):
    """x + rows of the table, [batch, length, features]."""
    table = self.param(
      "table",
      primitives.partitioned(self.initializer.kernel(), ("length", "embed")),
      (self.max_length + self.offset, x.shape[-1]),
      self.param_dtype,
    )
    # Gather, then cast, so that gradients are summed in float32.
    return x + table[ctx.positions + self.offset].astype(self.dtype)

  def longest(self):
    """The length of the table."""
    return self.max_length
