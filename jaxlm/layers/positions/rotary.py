"""Rotary positions: queries and keys turned by their position (RoFormer)."""

import jax.numpy as jnp
import numpy as np

from jaxlm.layers.positions import positions
from jaxlm.layers.positions.base import Positions


@positions.register("rotary", paper="arXiv:2104.09864")
class RotaryPositions(Positions):
  """Turns the pairs (x_i, x_{i + d/2}) by position * theta^(-2i/d).

  The half-split layout of GPT-NeoX and ModernBERT; scores depend on the
  distance alone.

  Attributes:
    theta: base of the wavelengths.
  """

  theta: float = 10_000.0

  def at_query_key(self, query, key, ctx):
    """query, key [batch, length, heads, head_dim], turned."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    width = query.shape[-1]
    rates = jnp.asarray(self.theta ** (-np.arange(0, width, 2) / width), wide)
    angles = ctx.positions[..., None].astype(wide) * rates[None, None]
    cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]

    def turn(x):
      first, second = jnp.split(x, 2, axis=-1)
      turned = [first * cos - second * sin, second * cos + first * sin]
      return jnp.concatenate(turned, axis=-1).astype(x.dtype)

    return turn(query), turn(key)
