"""Pre-norm block that also reads an encoder (T5's decoder)."""

from typing import ClassVar

import flax.linen as nn

from jaxlm.layers.blocks import blocks
from jaxlm.layers.blocks.pre_norm import PreNorm


@blocks.register("pre_norm_cross", paper="arXiv:1910.10683")
class PreNormCross(PreNorm, kw_only=True):
  """x += mixer(norm(x)); x += cross(norm(x)); x += feedforward(norm(x)).

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
    h = x if self.skip_mixer_norm else self.mixer_norm(x)
    x = x + self.drop(self.mixer(h, ctx), deterministic=still)
    h = self.cross(self.cross_norm(x), ctx)
    x = x + self.drop(h, deterministic=still)
    h = self.feedforward(self.feedforward_norm(x), ctx)
    return x + self.feedforward_drop(h, deterministic=still)
