"""Fourier transforms in the place of attention (FNet)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers.mixers import mixers


@mixers.register("fourier", paper="arXiv:2105.03824")
class Fourier(nn.Module):
  """y = Re(F_length(F_width(x))), x [batch, length, width] (section 3.2).

  It has no parameters. The transform runs over the whole row as it is fed: the
  same text in a longer row, with more padding behind it, comes out otherwise,
  so feed a model rows of one length. It computes in float32 or wider, without
  normalization: sums of length * width numbers, which suit a norm behind them.

  Attributes:
    parity: compute as the released model does, which transforms what padding
      holds; else padding counts as 0.
  """

  leaks: ClassVar[str] = (
    "the Fourier transform mixes all tokens of a row, and no mask can keep "
    "documents apart."
  )
  score_share: ClassVar[float] = 0.0

  parity: bool = False

  @nn.compact
  def __call__(self, x, ctx):
    if ctx.cache_length:
      raise errors.UserError(
        "mixer 'fourier' looks ahead, so it cannot decode with kept keys."
      )
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if not self.parity:
      wide = jnp.where(ctx.mask[..., None], wide, 0)
    return jnp.fft.fft2(wide, axes=(1, 2)).real.astype(x.dtype)
