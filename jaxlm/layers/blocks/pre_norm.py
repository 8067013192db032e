"""Pre-norm residual block (GPT-2, ModernBERT)."""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn

from jaxlm.layers import primitives
from jaxlm.layers.blocks import blocks


@blocks.register("pre_norm", paper="arXiv:2002.04745")
class PreNorm(nn.Module):
  """x += mixer(norm(x)); x += feedforward(norm(x)).

  The stream itself is never normalised: the model ends with a norm.

  Attributes:
    mixer: moves information between tokens.
    feedforward: works on each token.
    norm: makes a fresh norm.
    dropout: rate on what the mixer adds.
    feedforward_dropout: rate on what the feed-forward adds; `dropout` where
      None.
    skip_mixer_norm: no norm before the mixer (ModernBERT's first layer, whose
      input has just been normalised).
  """

  # `mixed` and `fed` are all that it does; subclasses that do more say no.
  splits: ClassVar[bool] = True

  mixer: nn.Module
  feedforward: nn.Module
  norm: Callable[[], nn.Module]
  dropout: float = 0.0
  feedforward_dropout: float | None = None
  skip_mixer_norm: bool = False

  def setup(self):
    if not self.skip_mixer_norm:
      self.mixer_norm = self.norm()
    self.feedforward_norm = self.norm()
    rate = self.feedforward_dropout
    self.drop = primitives.Dropout(self.dropout)
    self.feedforward_drop = primitives.Dropout(
      self.dropout if rate is None else rate
    )

  def __call__(self, x, ctx):
    return self.fed(self.mixed(x, ctx), ctx)

  def mixed(self, x, ctx):
    """The first half: what the mixer adds to [batch, length, width]."""
    h = x if self.skip_mixer_norm else self.mixer_norm(x)
    return x + self.drop(self.mixer(h, ctx), deterministic=not ctx.train)

  def fed(self, x, ctx):
    """The second half: what the feed-forward adds."""
    h = self.feedforward(self.feedforward_norm(x), ctx)
    return x + self.feedforward_drop(h, deterministic=not ctx.train)
