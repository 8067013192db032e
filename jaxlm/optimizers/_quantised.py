"""Optimizer states in 8 bits (Dettmers et al., arXiv:2110.02861).

Each block of values keeps its largest size in float32 and, for every value,
the nearest of 256 codes of a dynamic data type, fine near zero and coarse near
one. Codes have the shape of what they stand for, with blocks along the last
axis, so that they are sharded like the parameter; bitsandbytes blocks the
flattened array, which is the same where 256 divides the last axis.
"""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlm import paths
from jaxlm.types import Array

BLOCK = 256
_UNSIGNED = re.compile(r"(^|/)nu(/|$)")


class QuantisedState(NamedTuple):
  """A state in two halves, each None where the other holds the leaf.

  Attributes:
    plain: leaves that stay as they are.
    codes: uint8, of the leaf's shape.
    scales: float32, the largest size of each block along the last axis.
  """

  plain: Any
  codes: Any
  scales: Any


def quantised(
  tx: optax.GradientTransformation, smallest: int = 4096
) -> optax.GradientTransformationExtraArgs:
  """`tx` with its large float32 states kept in 8 bits between updates.

  Second moments, told by their name `nu`, take codes without sign.

  Args:
    tx: any transformation.
    smallest: states of fewer elements stay in float32.
  """
  tx = optax.with_extra_args_support(tx)

  def init(params):
    # Else XLA takes minutes to encode the zeros while it compiles.
    state = jax.lax.optimization_barrier(tx.init(params))
    return _encoded(state, smallest)

  def update(updates, state, params=None, **extra):
    inner = _decoded(state)
    updates, inner = tx.update(updates, inner, params, **extra)
    return updates, _encoded(inner, smallest)

  return optax.GradientTransformationExtraArgs(init, update)


def _encoded(state, smallest: int) -> QuantisedState:
  def one(path, leaf):
    wide = leaf.dtype == jnp.float32 and leaf.ndim
    if not wide or leaf.size < smallest:
      return leaf, None, None
    return None, *encode(leaf, bool(_UNSIGNED.search(paths.name(path))))

  leaves, tree = jax.tree_util.tree_flatten_with_path(state)
  parts = zip(*[one(*leaf) for leaf in leaves], strict=True)
  return QuantisedState(*(jax.tree.unflatten(tree, part) for part in parts))


def _decoded(state: QuantisedState):
  def one(path, plain, codes, scales):
    if plain is not None:
      return plain
    return decode(codes, scales, bool(_UNSIGNED.search(paths.name(path))))

  return jax.tree_util.tree_map_with_path(
    one, *state, is_leaf=lambda x: x is None
  )


@functools.cache
def codebook(unsigned: bool) -> np.ndarray:
  """[256] float32, ascending: the values that codes stand for, in [-1, 1]."""
  values = [0.0, 1.0]
  for exponent in range(7):
    count = 2 ** (exponent + unsigned)
    edges = np.linspace(0.1, 1.0, count + 1)
    middles = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (exponent - 6)
    values.extend(middles)
    if not unsigned:
      values.extend(-middles)
  return np.sort(np.array(values)).astype(np.float32)


def encode(x: Array, unsigned: bool) -> tuple[Array, Array]:
  """(uint8 codes of x's shape, float32 scales [..., blocks])."""
  size = x.shape[-1]
  blocks = -(-size // BLOCK)
  padding = [(0, 0)] * (x.ndim - 1) + [(0, blocks * BLOCK - size)]
  parts = jnp.pad(x, padding).reshape(*x.shape[:-1], blocks, BLOCK)
  scales = jnp.max(jnp.abs(parts), axis=-1)
  relative = parts / jnp.where(scales > 0, scales, 1.0)[..., None]
  values = codebook(unsigned)
  middles = (values[1:] + values[:-1]) / 2
  codes = jnp.searchsorted(jnp.asarray(middles), relative).astype(jnp.uint8)
  codes = codes.reshape(*x.shape[:-1], blocks * BLOCK)[..., :size]
  return codes, scales


def decode(codes: Array, scales: Array, unsigned: bool) -> Array:
  """float32 of the codes' shape.

  A code of zero without sign stands for half of the smallest value: it is
  what is left of a second moment that must not become a division by eps.
  """
  values = codebook(unsigned)
  if unsigned:
    values = values.copy()
    values[0] = values[1] / 2
  wide = jnp.repeat(scales, BLOCK, axis=-1)[..., : codes.shape[-1]]
  return jnp.asarray(values)[codes.astype(jnp.int32)] * wide
