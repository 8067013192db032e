"""Layers that use the same parameters again (ALBERT, arXiv:1909.11942)."""

from collections import Counter
from collections.abc import Sequence

import flax.linen as nn

from jaxlm import errors
from jaxlm.context import capture
from jaxlm.layers.stacks import stacks
from jaxlm.layers.stacks.scan import split


def firsts(order: Sequence[str]) -> tuple[int, ...]:
  """The layer whose parameters each layer uses: the first of its name."""
  order = tuple(order)
  return tuple(order.index(name) for name in order)


def loops(order: tuple[str, ...]) -> list[tuple[tuple[str, ...], int]]:
  """[(names of one turn, turns)] that together make up `order`."""
  if not order:
    return []
  first, period, turns = split(order)
  if turns == 1:
    return [(order, 1)]
  last = first + period * turns
  turn = order[first : first + period]
  return [*loops(order[:first]), (turn, turns), *loops(order[last:])]


@stacks.register("shared", paper="arXiv:1909.11942")
class Shared(nn.Module):
  """Runs `layers` in order; those of one name in `order` are one layer.

  ALBERT is order=("layer",) at depth 12; its groups are names of their own,
  order=("a",) * 4 + ("b",) * 4 + ("c",) * 4. Parameters lie under 'layers_<i>'
  with i the first layer of the name. A repetition runs as one `nn.scan` that
  broadcasts the parameters.

  Attributes:
    layers: blocks, [batch, length, width] -> the same.
    order: the palette name of each layer.
    remat: recompute each turn in the backward pass.
  """

  layers: tuple[nn.Module, ...]
  order: tuple[str, ...]
  remat: bool = False

  @nn.compact
  def __call__(self, x, ctx):
    order = tuple(self.order)
    used = Counter(order)
    for names, turns in loops(order):
      # A layer that also runs elsewhere keeps its places outside of loops.
      alone = all(used[name] == turns for name in names)
      if turns > 1 and alone:
        x = self._loop(x, ctx, names, turns)
      else:
        self._check_cache(ctx, used, names)
        x = self._turns(x, ctx, names * turns)
    return x

  def _layer(self, x, ctx, name):
    y = self.layers[tuple(self.order).index(name)](x, ctx)
    if y.shape != x.shape:
      raise errors.UserError(
        f"config.model.stack is 'shared', but layer '{name}' turns width "
        f"{x.shape[-1]} into {y.shape[-1]}, so it cannot be used again: take "
        "layers of one width, or stack.kind='sequential'."
      )
    return y

  def _loop(self, x, ctx, names, turns):
    def turn(stack, x, ctx):
      kept = []
      for name in names:
        x = stack._layer(x, ctx, name)
        kept.append(x if "hidden" in ctx.capture else None)
      return x, tuple(kept)

    if self.remat:
      # The loop already keeps XLA from merging the two passes.
      turn = nn.remat(turn, prevent_cse=False)
    x, kept = nn.scan(
      turn,
      variable_broadcast="params",
      variable_axes={"cache": 0, "intermediates": 0},
      split_rngs={"params": False, "dropout": True},
      in_axes=nn.broadcast,
      length=turns,
    )(self, x, ctx)
    if "hidden" in ctx.capture:
      for number in range(turns):
        for states in kept:
          capture(self, ctx, "hidden", states[number])
    return x

  def _turns(self, x, ctx, names):
    run = _run
    if self.remat:
      run = nn.remat(_run, static_argnums=(3,))
    for name in names:
      x = run(self, x, ctx, name)
      capture(self, ctx, "hidden", x)
    return x

  def _check_cache(self, ctx, used, names):
    again = next((name for name in names if used[name] > 1), None)
    if ctx.cache_length and again:
      raise errors.UserError(
        f"Layer '{again}' of the shared stack runs in several places, which "
        "cannot keep keys and values for decoding: take an order in which it "
        "repeats as a whole."
      )


def _run(stack, x, ctx, name):
  return stack._layer(x, ctx, name)
