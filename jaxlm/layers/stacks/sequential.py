"""Layers one after the other, each traced on its own."""

import flax.linen as nn

from jaxlm.context import capture
from jaxlm.layers.stacks import stacks


@stacks.register("sequential")
class Sequential(nn.Module):
  """Runs `layers` in order.

  Attributes:
    layers: blocks, [batch, length, width] -> the same.
    remat: recompute each layer in the backward pass instead of keeping its
      activations.
  """

  layers: tuple[nn.Module, ...]
  remat: bool = False

  def __call__(self, x, ctx):
    return self.last(self.before_last(x, ctx), ctx)

  def before_last(self, x, ctx):
    """All layers but the last."""
    for layer in self.layers[:-1]:
      x = self._run(layer, x, ctx)
    return x

  def last(self, x, ctx, *more):
    """The last layer; `more` goes to it, such as keys and values apart."""
    return self._run(self.layers[-1], x, ctx, *more)

  def halves(self, x, ctx, half: str):
    """One half of every layer, 'mixed' or 'fed'."""
    run = nn.remat(_half, static_argnums=(3,)) if self.remat else _half
    for layer in self.layers:
      x = run(layer, x, ctx, half)
    return x

  def _run(self, layer, x, ctx, *more):
    run = nn.remat(_run) if self.remat else _run
    x = run(layer, x, ctx, *more)
    capture(self, ctx, "hidden", x)
    return x


def _run(layer, x, ctx, *more):
  return layer(x, ctx, *more)


def _half(layer, x, ctx, half):
  return getattr(layer, half)(x, ctx)
