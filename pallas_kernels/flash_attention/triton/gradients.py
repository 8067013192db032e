"""What every backward kernel computes of a tile: probabilities and dS."""

import dataclasses

import jax
import jax.numpy as jnp

from pallas_kernels.flash_attention.triton import scores, tiles
from pallas_kernels.flash_attention.triton.problem import LOG2E, Problem
from pallas_kernels.flash_attention.triton.tiles import Tile


class Rows:
  """A block of queries with what its backward pass needs.

  Attributes:
    side: the queries.
    q: [block, head_dim].
    grad: gradient of the output, [block, value_dim].
    lse: [block], in base 2.
    delta: [block], sum of output times its gradient.
  """

  def __init__(self, problem: Problem, refs, batch, head, block, *, masked):
    self.side = tiles.queries(problem, refs, batch, head, block, masked=masked)
    self.q = self.side.matrix(refs["query"], batch, head, clean=masked)
    self.grad = self.side.matrix(refs["grad"], batch, head, clean=masked)
    self.lse = self.side.vector(refs["lse"], batch, head) * LOG2E
    self.delta = self.side.vector(refs["delta"], batch, head)


class Columns:
  """A block of keys with its matrices.

  Attributes:
    side: the keys.
    k: [block, head_dim].
    v: [block, value_dim].
  """

  def __init__(self, problem: Problem, refs, batch, key_head, block, *, masked):
    self.side = tiles.keys(problem, refs, batch, block, masked=masked)
    self.k = self.side.matrix(refs["key"], batch, key_head, clean=masked)
    self.v = self.side.matrix(refs["value"], batch, key_head, clean=masked)


@dataclasses.dataclass(frozen=True)
class Found:
  """Gradients of a tile, float32 of its shape.

  Attributes:
    kept: probabilities as dropout keeps them, not scaled.
    ds: gradient of the scores before the soft cap.
    uncapped: gradient of the scores after the soft cap.
    weight: minus the derivative of `ds` by delta.
  """

  kept: jax.Array
  ds: jax.Array
  uncapped: jax.Array
  weight: jax.Array


def of_tile(refs, tile: Tile, rows: Rows, columns: Columns, *, masked: bool):
  """`Found` for a tile; `masked` where it may hide something."""
  problem = tile.problem
  found = scores.scores(refs, tile, rows.q, columns.k)
  visible = tile.visible() if masked else None
  found = found.masked(visible)
  lse = tile.over_queries(rows.lse)
  p = problem.exp2(problem.fma(found.raw, found.factor, -lse))
  first, second = rows.grad, columns.v
  if tile.transposed:
    first, second = second, first
  dp = problem.dot(first, second, transpose_b=True)
  kept = p
  if problem.static.dropout_rate > 0.0:
    keep = scores.kept(tile)
    dp = jnp.where(keep, dp * problem.keep_factor, 0.0)
    kept = jnp.where(keep, p, 0.0)
  ds = uncapped = p * (dp - tile.over_queries(rows.delta))
  if found.damping is None:
    return Found(kept, ds, uncapped, weight=p)
  damping = found.damping
  if visible is not None:  # it may be NaN in padding
    damping = jnp.where(visible, damping, 0.0)
  return Found(kept, ds * damping, uncapped, weight=p * damping)
