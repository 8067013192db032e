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

  @nn.compact
  def __call__(self, x, ctx):
    run = nn.remat(_run) if self.remat else _run
    for layer in self.layers:
      x = run(layer, x, ctx)
      capture(self, ctx, "hidden", x)
    return x


def _run(layer, x, ctx):
  return layer(x, ctx)
