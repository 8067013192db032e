"""Cosine transforms in the place of attention (FlexiBERT's `dct`, alone)."""

from typing import ClassVar

import flax.linen as nn

from jaxlm import errors
from jaxlm.layers import transforms
from jaxlm.layers.mixers import mixers
from jaxlm.layers.mixers.fourier import LEAKS


@mixers.register("cosine", paper="arXiv:2205.11656")
class Cosine(nn.Module):
  """y = DCT_length(DCT_width(x)) of type II, x [batch, length, width].

  What `fourier` is for the Fourier transform, with the same cautions: no
  parameters, and the same text in a longer row comes out otherwise. Computed
  in float32 or wider. FlexiBERT's released layers add attention to positions:
  see `transform_attention`.

  Attributes:
    orthonormal: keep the scale of x; else sums of length * width numbers.
    parity: transform what padding holds; else padding counts as 0.
  """

  leaks: ClassVar[str] = LEAKS
  score_share: ClassVar[float] = 0.0

  orthonormal: bool = False
  parity: bool = False

  @nn.compact
  def __call__(self, x, ctx):
    if ctx.cache_length:
      raise errors.UserError(
        "mixer 'cosine' looks ahead, so it cannot decode with kept keys."
      )
    return transforms.of_row(
      "dct", x, ctx, orthonormal=self.orthonormal, parity=self.parity
    )
