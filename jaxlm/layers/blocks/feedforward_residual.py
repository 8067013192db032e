"""Post-norm around the feed-forward alone (M2-BERT, arXiv:2310.12109)."""

from collections.abc import Callable

import flax.linen as nn

from jaxlm.layers import primitives
from jaxlm.layers.blocks import blocks


@blocks.register("feedforward_residual", paper="arXiv:2310.12109")
class FeedForwardResidual(nn.Module):
  """x = mixer(x); x = norm(x + feedforward(x)).

  Nothing leads around the mixer: it needs a residual of its own ('monarch').

  Attributes:
    mixer: moves information between tokens.
    feedforward: works on each token.
    norm: makes a fresh norm.
    feedforward_dropout: rate on what the feed-forward adds.
  """

  mixer: nn.Module
  feedforward: nn.Module
  norm: Callable[[], nn.Module]
  feedforward_dropout: float = 0.0

  def setup(self):
    self.feedforward_norm = self.norm()
    self.feedforward_drop = primitives.Dropout(self.feedforward_dropout)

  def __call__(self, x, ctx):
    x = self.mixer(x, ctx)
    h = self.feedforward(x, ctx)
    h = self.feedforward_drop(h, deterministic=not ctx.train)
    return self.feedforward_norm(x + h)
