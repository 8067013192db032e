"""T5's relative positions: a learned score for each bucket of distances."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.positions import positions
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer
from pallas_kernels.flash_attention import bias


@positions.register(
  "relative_buckets", paper="arXiv:1910.10683", example={"heads": 4}
)
class RelativeBuckets(Positions):
  """Adds table[bucket(j - i), head] to the scores of every layer.

  Attributes:
    heads: attention heads of every layer.
    buckets: rows of the table.
    max_distance: distances from here on share the last bucket.
    bidirectional: whether keys after the query have buckets of their own.
  """

  on_scores: ClassVar[bool] = True

  heads: int
  buckets: int = 32
  max_distance: int = 128
  bidirectional: bool = True
  initializer: Initializer = Initializer()
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def prepare(self, ctx):
    """Adds the table to `ctx.bias`."""
    table = self.param(
      "table",
      primitives.partitioned(self.initializer.kernel(), (None, "heads")),
      (self.buckets, self.heads),
      self.param_dtype,
    )
    term = bias.Buckets(table, self.bidirectional, self.max_distance)
    return ctx.replace(bias=bias.add(ctx.bias, term))
