"""Fixed sines and cosines added to the embeddings (Vaswani et al.)."""

import jax.numpy as jnp

from jaxlm.layers.positions import positions
from jaxlm.layers.positions.base import Positions


def sinusoids(index, features: int, theta: float):
  """[..., ] positions -> [..., features] float32: sines, then cosines."""
  rates = theta ** (-jnp.arange(0, features, 2) / features)
  angles = index[..., None].astype(jnp.float32) * rates.reshape(
    (1,) * index.ndim + (-1,)
  )
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


@positions.register("sinusoidal", paper="arXiv:1706.03762")
class SinusoidalPositions(Positions):
  """Adds sin and cos of position * theta^(-2i/features) (section 3.5).

  Sines fill the first half and cosines the second; the paper interleaves
  them, which is the same up to an order of features.

  Attributes:
    theta: the longest wavelength over 2 pi.
  """

  theta: float = 10_000.0

  def at_input(self, x, ctx):
    """x + sinusoids, [batch, length, features]."""
    return x + sinusoids(ctx.positions, x.shape[-1], self.theta).astype(x.dtype)
