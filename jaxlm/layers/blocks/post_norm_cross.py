"""Post-norm block that also reads an encoder (BART's decoder)."""

from typing import ClassVar

import flax.linen as nn

from jaxlm.layers.blocks import blocks
from jaxlm.layers.blocks.post_norm import PostNorm


@blocks.register("post_norm_cross", paper="arXiv:1910.13461")
class PostNormCross(PostNorm, kw_only=True):
  """x = norm(x + mixer(x)); x = norm(x + cross(x)); x = norm(x + ff(x)).

  Attributes:
    cross: reads the encoder's states, `ctx.memory`.
  """

  splits: ClassVar[bool] = False

  cross: nn.Module

  def setup(self):
    super().setup()
    self.cross_norm = self.norm()

  def __call__(self, x, ctx):
    still = not ctx.train
    h = self.drop(self.mixer(x, ctx), deterministic=still)
    x = self.mixer_norm(x + h)
    h = self.drop(self.cross(x, ctx), deterministic=still)
    x = self.cross_norm(x + h)
    h = self.feedforward_drop(self.feedforward(x, ctx), deterministic=still)
    return self.feedforward_norm(x + h)
