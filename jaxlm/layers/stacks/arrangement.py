"""Parameters of scanned and of unrolled stacks, one turned into the other.

Both stacks compute the same; a scanned one keeps the repeated layers as one
set of arrays with a leading axis of turns. Files for other programs hold
layers one by one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.layers.stacks.scan import split


def unrolled(params: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
  """The parameters of a model with a scanned stack, for a sequential one.

  Args:
    params: of the whole model; those of repeated layers under
      'stack/loop/layers_<place>', of others under 'stack/layers_<i>'.
    order: the palette name of every layer (`assembly.layer_order`).

  Returns:
    A new tree; leaves that no loop holds are the same objects.
  """
  first, period, turns = split(tuple(order))
  stack = dict(params["stack"])
  loop = stack.pop("loop", {})
  for place in range(period):
    looped = loop.get(f"layers_{place}")
    if looped is None:  # a layer without parameters
      continue
    for turn in range(turns):
      index = first + place + turn * period
      stack[f"layers_{index}"] = jax.tree.map(_taking(turn), looped)
  return {**params, "stack": stack}


def scanned(params: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
  """The parameters of a model with a sequential stack, for a scanned one.

  The inverse of `unrolled`.
  """
  first, period, turns = split(tuple(order))
  stack = dict(params["stack"])
  loop = {}
  for place in range(period):
    numbers = [first + place + turn * period for turn in range(turns)]
    layers = [stack.pop(f"layers_{n}", None) for n in numbers]
    if all(layer is not None for layer in layers):
      loop[f"layers_{place}"] = jax.tree.map(_stacked, *layers)
  return {**params, "stack": {**stack, "loop": loop} if loop else stack}


def _taking(turn: int) -> Callable:
  return lambda leaf: leaf[turn]


def _stacked(*leaves):
  on_host = all(isinstance(leaf, np.ndarray) for leaf in leaves)
  return (np if on_host else jnp).stack(leaves)
