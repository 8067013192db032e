"""Scores of a tile: the dot product and the terms that are present.

A term is a function (refs, tile, total) -> total, where total is the sum of
the terms before it in base 2 (that is, times log2 e) or None. Small tables
are already in base 2 (`in_base_2`).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton as pltriton

from pallas_kernels import dropout
from pallas_kernels.flash_attention.triton.problem import LOG2E
from pallas_kernels.flash_attention.triton.tiles import Tile, of_batch


def in_base_2(operands) -> dict:
  """The present operands by name; small tables multiplied by log2 e."""
  found = {
    f.name: getattr(operands, f.name) for f in dataclasses.fields(operands)
  }
  for name in ("slopes", "toeplitz", "theta"):
    if found[name] is not None:
      found[name] = found[name].astype(jnp.float32) * LOG2E
  return {name: value for name, value in found.items() if value is not None}


def _toeplitz(refs, tile, total):
  index = tile.distance() + (tile.problem.queries - 1)
  value = pltriton.load(refs["toeplitz"].at[tile.head, index])
  return value if total is None else total + value


def _slopes(refs, tile, total):
  away = jnp.abs(tile.distance() - tile.problem.static.query_offset)
  away, slope = away.astype(jnp.float32), -refs["slopes"][tile.head]
  return away * slope if total is None else tile.problem.fma(away, slope, total)


def _theta(refs, tile, total):
  total = jnp.zeros(tile.shape, jnp.float32) if total is None else total
  key_first = jnp.broadcast_to(tile.over_keys(tile.keys.first), tile.shape)
  total = jnp.where(key_first, refs["theta"][1, tile.head], total)
  query_first = tile.over_queries(tile.queries.first)
  query_first = jnp.broadcast_to(query_first, tile.shape)
  return jnp.where(query_first, refs["theta"][0, tile.head], total)


def _dense(refs, tile, total):
  ref = refs["dense"]
  head = tile.head if ref.shape[1] > 1 else 0
  i, j = tile.over_queries(tile.queries.safe), tile.over_keys(tile.keys.safe)
  place = ref.at[of_batch(ref, tile.batch), head, i, j]
  return _scaled(tile, pltriton.load(place), total)


def _c2p(refs, tile, total):
  owner = tile.over_queries(tile.queries.safe)
  return _bucketed(refs, "c2p", owner, tile, total)


def _p2c(refs, tile, total):
  owner = tile.over_keys(tile.keys.safe)
  return _bucketed(refs, "p2c", owner, tile, total)


def _bucketed(refs, name, owner, tile, total):
  bucket = refs[f"{name}_buckets"].at[
    tile.distance() + (tile.problem.queries - 1)
  ]
  place = refs[name].at[tile.batch, owner, tile.head, pltriton.load(bucket)]
  return _scaled(tile, pltriton.load(place), total)


def _scaled(tile, value, total):
  value = value.astype(jnp.float32)
  return (
    value * LOG2E if total is None else tile.problem.fma(value, LOG2E, total)
  )


# In the order of the formula: theta replaces what stands before it.
_TERMS = {
  "toeplitz": _toeplitz,
  "slopes": _slopes,
  "theta": _theta,
  "dense": _dense,
  "c2p": _c2p,
  "p2c": _p2c,
}


@dataclasses.dataclass(frozen=True)
class Scores:
  """Scores of a tile in base 2 are raw * factor.

  Attributes:
    raw: float32, of the tile's shape.
    factor: positive; folded into the exponential by its user.
    damping: derivative of the soft cap, or None.
  """

  raw: jax.Array
  factor: float
  damping: jax.Array | None = None

  def masked(self, visible) -> "Scores":
    """-inf where not visible (None: all are)."""
    if visible is None:
      return self
    raw = jnp.where(visible, self.raw, -jnp.inf)
    return dataclasses.replace(self, raw=raw)


def scores(refs, tile: Tile, q, k) -> Scores:
  """Scores of query rows q against key rows k, before masking."""
  problem = tile.problem
  first, second = (k, q) if tile.transposed else (q, k)
  raw = problem.dot(first, second, transpose_b=True)
  factor, total = problem.static.scale * LOG2E, None
  for name, term in _TERMS.items():
    if name in problem.present:
      total = term(refs, tile, total)
  if total is not None:
    raw, factor = problem.fma(raw, factor, total), 1.0
  if problem.static.soft_cap is not None:
    return _capped(problem, raw, factor)
  # Maxima are taken of raw: its factor must not turn their order around.
  return Scores(raw, factor) if factor > 0.0 else Scores(raw * factor, 1.0)


def _capped(problem, raw, factor):
  """cap * tanh(score / cap) in base 2, and its derivative."""
  cap = problem.static.soft_cap * LOG2E
  if problem.dtype == jnp.float32:
    tanh = jnp.tanh(raw * (factor / cap))
  else:  # right to 2**-22, which is enough beside 16-bit operands
    e = problem.exp2(raw * (2.0 * LOG2E * factor / cap))
    tanh = problem.fma(problem.reciprocal(1.0 + e), -2.0, 1.0)
  return Scores(tanh, cap, 1.0 - tanh * tanh)


def kept(tile: Tile):
  """Which elements dropout keeps: bool of the tile's shape."""
  row, column = tile.over_queries(tile.queries.hash), tile.keys.hash
  bits = dropout.mix(row ^ tile.over_keys(column))
  below = dropout.keep_below(tile.problem.static.dropout_rate)
  return bits < jnp.uint32(below)
