"""A mixer with a residual around it and nothing else (ELMo)."""

import flax.linen as nn

from jaxlm.layers import primitives
from jaxlm.layers.blocks import blocks


@blocks.register("mixer_only", paper="arXiv:1802.05365")
class MixerOnly(nn.Module):
  """x = x + mixer(x); its layers have no slot 'feedforward'.

  Attributes:
    mixer: moves information between tokens.
    residual: add x; off in ELMo's first layer.
    dropout: rate on what the mixer gives.
  """

  mixer: nn.Module
  residual: bool = True
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x, ctx):
    h = self.mixer(x, ctx)
    h = primitives.Dropout(self.dropout)(h, deterministic=not ctx.train)
    return x + h if self.residual else h
