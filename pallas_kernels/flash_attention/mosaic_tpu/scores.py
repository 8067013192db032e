"""The scores of a tile: products, terms, cap, what is hidden, what is dropped.

All that a call's options decide is decided while it is traced: attention
without a term or a mask holds no trace of them.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels import dropout
from pallas_kernels.flash_attention.mosaic_tpu import (
  disentangled,
  dots,
  terms,
  tiles,
)
from pallas_kernels.flash_attention.mosaic_tpu.calls import Input


def terms_of(static, operands) -> tuple:
  """The terms of a call."""
  x, found = operands, ()
  if x.toeplitz is not None:
    found += (terms.Toeplitz(x.toeplitz),)
  if x.slopes is not None:
    found += (terms.Alibi(x.slopes, static.query_offset),)
  if x.theta is not None:
    found = (terms.Reset(found, x.theta, x.query_first, x.key_first),)
  if x.dense is not None:
    found += (terms.Dense(x.dense),)
  if x.c2p is not None:
    found += (disentangled.ContentToPosition(x.c2p, x.c2p_buckets),)
  if x.p2c is not None:
    found += (disentangled.PositionToContent(x.p2c, x.p2c_buckets),)
  return found


@dataclasses.dataclass(frozen=True)
class Scores:
  """How a call's scores come about.

  Attributes:
    static: the call's options.
    terms: what is added to the products.
    segmented: whether there are segments.
  """

  static: object
  terms: tuple
  segmented: bool

  def inputs(self, shape, operands) -> dict:
    """Arrays by name, without query and key."""
    found = {}
    for term in self.terms:
      found |= term.inputs(shape)
    if self.segmented:
      found |= _segments(shape, operands)
    if self.static.dropout_rate > 0.0:
      found |= _hashes(shape, operands)
    return found

  def logits(self, tile, key, query, masked: bool):
    """Scores as the softmax sees them, and the slope of the cap there.

    Args:
      tile: where it lies.
      key: [block_k, head_dim].
      query: [head_dim, block_q].
      masked: whether some element may be hidden; it is -inf then.

    Returns:
      [block_k, block_q] float32, and the same of slopes or None.
    """
    logits = dots.dot(key, query, 1, 0) * self.static.scale
    for term in self.terms:
      logits += term.score(tile)
    slope, cap = None, self.static.soft_cap
    if cap is not None:
      bent = jnp.tanh(logits * (1.0 / cap))
      logits, slope = cap * bent, 1.0 - bent * bent
    if masked:
      seen = self._seen(tile)
      logits = jnp.where(seen, logits, -jnp.inf)
      slope = None if slope is None else jnp.where(seen, slope, 0.0)
    return logits, slope

  def score_gradient(self, tile, masked: bool):
    """Kept weights and the scores' gradient, [block_k, block_q] float32."""
    ref = tile.ref
    logits, slope = self.logits(
      tile, ref["key"][...], ref["query"][...], masked
    )
    weights = jnp.exp(logits - ref["lse"][...])
    of_weights = dots.dot(ref["value"][...], ref["grad_out"][...], 1, 0)
    if self.boost != 1.0:
      of_weights *= self.boost
    kept, of_weights = self.drop(tile, weights, of_weights)
    grad = weights * (of_weights - ref["delta"][...])
    return kept, grad if slope is None else grad * slope

  def _seen(self, tile):
    """[block_k, block_q] bool."""
    rules, shape, static = [], tile.shape, self.static
    if self.segmented:
      key = tiles.column(tile.ref["key_segments"][...])
      rules.append(key == tile.ref["query_segments"][...])
    elif shape.keys % shape.block_k:
      rules.append(tile.keys() < shape.keys)
    if static.causal or static.window is not None:
      distance = tile.distance(static.query_offset)
    if static.causal:
      rules.append(distance <= 0)
    if static.window is not None:
      before, after = static.window
      rules.append(distance >= -before)
      if not (static.causal and after >= 0):
        rules.append(distance <= after)
    seen = rules[0]
    for rule in rules[1:]:
      seen &= rule
    return seen

  @property
  def boost(self) -> float:
    """Factor on what dropout keeps."""
    return 1.0 / (1.0 - self.static.dropout_rate)

  def drop(self, tile, *arrays):
    """Arrays [block_k, block_q] with zeros where dropout hits."""
    rate = self.static.dropout_rate
    if rate == 0.0:
      return arrays
    start = tile.ref["column_seed"][0] + tile.place.key * tile.shape.block_k
    keys = jax.lax.broadcasted_iota(jnp.int32, tile.size, 0) + start
    bits = dropout.mix(tile.ref["row_hash"][...] ^ keys.astype(jnp.uint32))
    keep = bits < np.uint32(dropout.keep_below(rate))
    return tuple(jnp.where(keep, x, 0.0) for x in arrays)

  def gradients(self, shape) -> dict:
    """The terms' outputs by name."""
    found = {}
    for term in self.terms:
      found |= term.gradients(shape)
    return found

  def accumulate(self, tile, grad):
    """Gives each term a tile's gradient."""
    for term in self.terms:
      term.accumulate(tile, grad)

  def finish(self, shape, found) -> dict:
    """The terms' gradients by operand."""
    grads = {}
    for term in self.terms:
      grads |= term.finish(shape, found)
    return grads


def scores_of(static, operands) -> Scores:
  """The `Scores` of a call."""
  segmented = operands.query_segments is not None
  return Scores(static, terms_of(static, operands), segmented)


def whole(shape, place, full):
  """`full`, and no key of the tile is padding to the tile's size."""
  if not shape.keys % shape.block_k:
    return full
  inside = (place.key + 1) * shape.block_k <= shape.keys
  return inside if full is True else full & inside


def _segments(shape, operands):
  """Equal where a key may be seen: padding is 0 for queries, -1 for keys."""
  query = jnp.maximum(operands.query_segments, 0)
  key = operands.key_segments
  key = jnp.where(key > 0, key, -1)
  return {
    "query_segments": terms.row_input(
      query, shape.padded_queries, shape.block_q, "query"
    ),
    "key_segments": terms.row_input(
      key, shape.padded_keys, shape.block_k, "key", -1
    ),
  }


def _hashes(shape, operands):
  """Rows' hashes, and the seed as int32, which scalars are."""
  rows = tiles.pad(operands.row_hash, 2, shape.padded_queries)[:, :, None]
  seed = jax.lax.bitcast_convert_type(operands.column_seed, jnp.int32)
  return {
    "row_hash": Input(
      rows,
      (None, None, 1, shape.block_q),
      lambda p: (p.batch, p.head, 0, p.query),
    ),
    "column_seed": Input(seed),
  }
