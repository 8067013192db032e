"""Post-norm residual block (BERT, RoBERTa, MosaicBERT)."""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn

from jaxlm.layers import primitives
from jaxlm.layers.blocks import blocks


@blocks.register("post_norm", paper="arXiv:1810.04805")
class PostNorm(nn.Module):
  """x = norm(x + mixer(x)); x = norm(x + feedforward(x)).

  Attributes:
    mixer: moves information between tokens.
    feedforward: works on each token.
    norm: makes a fresh norm.
    dropout: rate on what the mixer adds.
    feedforward_dropout: rate on what the feed-forward adds; `dropout` where
      None.
  """

  # `mixed` and `fed` are all that it does; subclasses that do more say no.
  splits: ClassVar[bool] = True

  mixer: nn.Module
  feedforward: nn.Module
  norm: Callable[[], nn.Module]
  dropout: float = 0.0
  feedforward_dropout: float | None = None

  def setup(self):
    self.mixer_norm = self.norm()
    self.feedforward_norm = self.norm()
    rate = self.feedforward_dropout
    self.drop = primitives.Dropout(self.dropout)
    self.feedforward_drop = primitives.Dropout(
      self.dropout if rate is None else rate
    )

  def __call__(self, x, ctx, kv=None):
    """x [batch, length, width]; the mixer's keys and values may be apart."""
    return self.fed(self.mixed(x, ctx, kv), ctx)

  def mixed(self, x, ctx, kv=None):
    """The first half: what the mixer adds."""
    h = self.mixer(x, ctx) if kv is None else self.mixer(x, ctx, kv)
    h = self.drop(h, deterministic=not ctx.train)
    return self.mixer_norm(x + h)

  def fed(self, x, ctx):
    """The second half: what the feed-forward adds."""
    h = self.feedforward(x, ctx)
    h = self.feedforward_drop(h, deterministic=not ctx.train)
    return self.feedforward_norm(x + h)
