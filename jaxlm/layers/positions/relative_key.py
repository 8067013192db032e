"""Scores of queries and learned rows of distances (Shaw et al.)."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.positions import positions
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer
from pallas_kernels.flash_attention import bias


@positions.register(
  "relative_key", paper="arXiv:1803.02155", example={"max_length": 32}
)
class RelativeKeyPositions(Positions):
  """Adds q_i . a_(i-j) to q_i . k_j, before both are scaled (equation 5).

  Acts inside a mixer, so that each layer has a table of its own, which its
  heads share. Packed documents see the distances that they have alone.

  Attributes:
    max_length: of rows; the table has 2 * max_length - 1 distances.
  """

  max_length: int = 512
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def at_scores(self, query, key, ctx, scale):
    """The bias of every query and distance.

    Raises:
      UserError: a row longer than `max_length`, or decoding with kept keys.
    """
    queries, keys = query.shape[1], key.shape[1]
    self._check(max(queries, keys), ctx)
    table = self.param(
      "table",
      primitives.partitioned(self.initializer.kernel(), ("length", None)),
      (2 * self.max_length - 1, query.shape[-1]),
      self.param_dtype,
    )
    # Row max_length - 1 is distance 0; only some are reached.
    reached = table[self.max_length - keys : self.max_length + queries - 1]
    # Scores decide: they are not rounded to bfloat16.
    scores = scale * jnp.einsum(
      "blhd,rd->blhr",
      query,
      reached.astype(self.dtype),
      preferred_element_type=jnp.promote_types(self.dtype, jnp.float32),
    )
    rows = np.arange(queries + keys - 1, dtype=np.int32)[::-1]
    return bias.Disentangled(scores, None, jnp.asarray(rows), None)

  def longest(self):
    """`max_length`."""
    return self.max_length

  def _check(self, length, ctx):
    if length > self.max_length:
      raise errors.UserError(
        f"position 'relative_key' has max_length={self.max_length}, but a row "
        f"has {length} tokens: enlarge it, or shorten the rows."
      )
    if ctx.cache_length:
      raise errors.UserError(
        "position 'relative_key' cannot decode with kept keys: take 'rotary' "
        "for a model that generates."
      )
