"""ALiBi: a penalty on the score that grows with distance."""

from typing import ClassVar

from jaxlm.layers.positions import positions
from jaxlm.layers.positions.base import Positions
from pallas_kernels.flash_attention import bias


@positions.register("alibi", paper="arXiv:2108.12409", example={"heads": 4})
class Alibi(Positions):
  """Adds -slope_h * |i - j|, symmetric as in MosaicBERT (arXiv:2312.17482).

  Attributes:
    heads: attention heads of every layer.
  """

  on_scores: ClassVar[bool] = True

  heads: int

  def prepare(self, ctx):
    """Adds the slopes to `ctx.bias`."""
    term = bias.Alibi(bias.alibi_slopes(self.heads))
    return ctx.replace(bias=bias.add(ctx.bias, term))
