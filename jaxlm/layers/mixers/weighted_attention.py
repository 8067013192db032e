"""Weighted multiplicative attention (FlexiBERT's `wma`)."""

import jax
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.mixers import mixers
from jaxlm.layers.mixers.attention import Attention


@mixers.register(
  "weighted_attention",
  paper="arXiv:2205.11656",
  example={"heads": 4, "width": 32},
)
class WeightedAttention(Attention):
  """`Attention` with scores q_i M k_j, M [head_dim, head_dim] of the layer.

  All heads share M (section 3.1, after Luong et al., arXiv:1508.04025).
  Scores of positions are made of the plain queries. Safe for packed rows.
  """

  def _weighted(self, query):
    size = query.shape[-1]
    weights = self.param(
      "weights",
      primitives.partitioned(uniform, (None, None)),
      (size, size),
      self.param_dtype,
    )
    return query @ weights.astype(self.dtype)


def uniform(key, shape, dtype=jnp.float32):
  """M as the released code starts it."""
  return jax.random.uniform(key, shape, dtype, -0.1, 0.1)
