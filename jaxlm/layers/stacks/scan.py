"""Layers as one scanned loop: compile time does not grow with depth."""

import flax.linen as nn

from jaxlm import errors
from jaxlm.context import capture
from jaxlm.layers.stacks import stacks


class _Period(nn.Module):
  """One turn of the loop."""

  layers: tuple[nn.Module, ...]

  @nn.compact
  def __call__(self, x, ctx):
    for layer in self.layers:
      x = layer(x, ctx)
      capture(self, ctx, "hidden", x)
    return x, None


def split(order: tuple[str, ...]) -> tuple[int, int, int]:
  """(first, period, turns): the longest repetition of names in `order`.

  Layers before `first` and after first + period * turns run unrolled.
  """
  best = (0, 1, 1)
  for first in range(len(order)):
    for period in range(1, (len(order) - first) // 2 + 1):
      pattern = order[first : first + period]
      turns = 1
      start = first + period
      while order[start : start + period] == pattern:
        turns, start = turns + 1, start + period
      if turns > 1 and period * turns > best[1] * best[2]:
        best = (first, period, turns)
  return best


@stacks.register("scan")
class Scan(nn.Module):
  """Runs the repeating part of `layers` as one `nn.scan`.

  Its parameters, under 'loop/layers_<place>', gain a leading axis 'layers' of
  the number of turns. Layers before and after the repetition are unrolled.

  Attributes:
    layers: blocks, [batch, length, width] -> the same.
    order: the palette name of each layer; equal names are equal layers.
    remat: recompute each turn in the backward pass.
  """

  layers: tuple[nn.Module, ...]
  order: tuple[str, ...]
  remat: bool = False

  def __call__(self, x, ctx):
    return self._through(x, ctx, len(self.layers))

  def before_last(self, x, ctx):
    """All layers but the last, which must be outside of the loop."""
    return self._through(x, ctx, len(self.layers) - 1)

  def last(self, x, ctx, *more):
    """The last layer; `more` goes to it, such as keys and values apart.

    Raises:
      UserError: it is part of the loop, which runs as a whole.
    """
    first, period, turns = split(tuple(self.order))
    if first + period * turns == len(self.layers):
      raise errors.UserError(
        "This model runs its last layer by itself, but stack 'scan' has it in "
        "its loop. Give it a name of its own in config.model.layers, equal as "
        "it is to others, and name it last in config.model.order."
      )
    return self._one(self.layers[-1], x, ctx, *more)

  @nn.compact
  def _through(self, x, ctx, count):
    """The first `count` layers, all of the loop among them."""
    first, period, turns = split(tuple(self.order))
    last = first + period * turns
    for layer in self.layers[:first]:
      x = self._one(layer, x, ctx)
    body = _Period
    if self.remat:
      # The loop already keeps XLA from merging the two passes.
      body = nn.remat(body, prevent_cse=False)
    loop = nn.scan(
      body,
      variable_axes={"params": 0, "cache": 0, "intermediates": 0},
      split_rngs={"params": True, "dropout": True},
      in_axes=nn.broadcast,
      length=turns,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )
    # Unbound copies: the loop owns them, so that paths tell ('loop/layers_0')
    # which parameters have an axis of turns in front.
    looped = tuple(
      layer.clone(parent=None, _deep_clone=True)
      for layer in self.layers[first : first + period]
    )
    x, _ = loop(looped, name="loop")(x, ctx)
    for layer in self.layers[last:count]:
      x = self._one(layer, x, ctx)
    return x

  def _one(self, layer, x, ctx, *more):
    x = layer(x, ctx, *more)
    capture(self, ctx, "hidden", x)
    return x
