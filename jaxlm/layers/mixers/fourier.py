"""Fourier transforms in the place of attention (FNet)."""

from typing import ClassVar

import flax.linen as nn

from jaxlm import errors
from jaxlm.layers import transforms
from jaxlm.layers.mixers import mixers

LEAKS = (
  "such a transform mixes all tokens of a row, and no mask can keep documents "
  "apart."
)


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

  leaks: ClassVar[str] = LEAKS
  score_share: ClassVar[float] = 0.0

  parity: bool = False

  @nn.compact
  def __call__(self, x, ctx):
    if ctx.cache_length:
      raise errors.UserError(
        "mixer 'fourier' looks ahead, so it cannot decode with kept keys."
      )
    return transforms.of_row("dft", x, ctx, parity=self.parity)
