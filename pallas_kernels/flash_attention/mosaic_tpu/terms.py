"""What may be added to a tile's scores, and what its gradient gathers.

A term names the arrays that it reads, adds its part to a tile, and in the
backward pass adds a tile's score gradient up in outputs of its own, one per
(batch row, head), which XLA sums afterwards: no two steps of the grid that run
in parallel ever write to one place.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from pallas_kernels.flash_attention.mosaic_tpu import skew, tiles
from pallas_kernels.flash_attention.mosaic_tpu.calls import Input, Output


@dataclasses.dataclass(frozen=True)
class Found:
  """Gradients of a tile, [block_k, block_q] float32.

  Attributes:
    kept: probabilities as dropout leaves them, without its factor.
    weights: probabilities.
    capped: gradient of the scores after the soft cap.
    scores: gradient of the scores before it.
    slope: of the soft cap, or None.
  """

  kept: jax.Array
  weights: jax.Array
  capped: jax.Array
  scores: jax.Array
  slope: jax.Array | None


def per_head(shape, *sizes) -> Output:
  """A float32 output [batch, heads, *sizes] that gathers over a head."""
  return Output(
    shape=(shape.batch, shape.heads, *sizes),
    dtype=jnp.float32,
    block=(None, None, *sizes),
    index=lambda p: (p.batch, p.head, *[0] * len(sizes)),
    zero="head",
  )


@dataclasses.dataclass(frozen=True)
class Alibi:
  """-slope * |key - query|.

  Attributes:
    slopes: [heads] float32.
    offset: place of the first query among the keys.
  """

  slopes: jax.Array
  offset: int

  def inputs(self, shape):
    """Arrays by name."""
    del shape
    return {"slopes": Input(self.slopes)}

  def score(self, tile):
    """[block_k, block_q] float32."""
    slope = tile.ref["slopes"][tile.place.head]
    return jnp.abs(tile.distance(self.offset)).astype(jnp.float32) * -slope

  def gradients(self, shape):
    """Outputs by name."""
    return {"d_slopes": per_head(shape, 3, shape.padded_queries)}

  def accumulate(self, tile, found):
    """Adds a tile's gradient to the outputs."""
    distance = jnp.abs(tile.distance(self.offset)).astype(jnp.float32)
    _sums_of_rows(tile, "d_slopes", found, lambda x: x * distance)

  def finish(self, shape, found):
    """Gradients by operand."""
    sums = _without_deltas_error(found["d_slopes"], shape.queries)
    return {"slopes": -jnp.sum(sums, (0, 2))}


@dataclasses.dataclass(frozen=True)
class Toeplitz:
  """A learned score per distance.

  Attributes:
    table: [heads, queries + keys - 1] float32, by key - query.
  """

  table: jax.Array

  def inputs(self, shape):
    """The table by query - key, 0 for distances that only padding has."""
    length = shape.padded_queries + shape.padded_keys
    before = shape.padded_keys - shape.keys + 1
    after = shape.padded_queries - shape.queries
    strips = jnp.pad(self.table[:, ::-1], ((0, 0), (before, after)))
    return {
      "toeplitz": Input(
        strips[:, None], (None, 1, length), lambda p: (p.head, 0, 0)
      )
    }

  def score(self, tile):
    """[block_k, block_q] float32."""
    strip = tile.ref["toeplitz"][:, strip_of_queries(tile)]
    return skew.skew(strip, tile.shape.block_k)

  def gradients(self, shape):
    """Outputs by name."""
    length = shape.padded_queries + shape.padded_keys
    return {"d_toeplitz": per_head(shape, 1, length)}

  def accumulate(self, tile, found):
    """Adds a tile's gradient to the outputs."""
    here = strip_of_queries(tile)
    tile.ref["d_toeplitz"][:, here] += skew.diagonal_sums(found.scores)

  def finish(self, shape, found):
    """Gradients by operand."""
    strips = jnp.sum(found["d_toeplitz"], (0, 2))
    before = shape.padded_keys - shape.keys + 1
    return {
      "toeplitz": strips[:, before : before + self.table.shape[1]][:, ::-1]
    }


def strip_of_queries(tile):
  """The part of a strip by query - key that a tile's rows of keys need."""
  shape = tile.shape
  start = (
    tile.place.query * shape.block_q
    - (tile.place.key + 1) * shape.block_k
    + shape.padded_keys
  )
  lanes = min(tiles.LANES, shape.block_q, shape.block_k)
  return pl.ds(pl.multiple_of(start, lanes), shape.block_q + shape.block_k)


@dataclasses.dataclass(frozen=True)
class Reset:
  """Positional terms, replaced where a document's first token takes part.

  Attributes:
    terms: the positional terms.
    theta: [2, heads] float32: first tokens as queries, then as keys.
    query_first: [1 or batch, queries] int32.
    key_first: [1 or batch, keys] int32.
  """

  terms: tuple
  theta: jax.Array
  query_first: jax.Array
  key_first: jax.Array

  def inputs(self, shape):
    """Arrays by name."""
    found = {"theta": Input(self.theta.T.reshape(-1))}
    for term in self.terms:
      found |= term.inputs(shape)
    return found | {
      "query_first": row_input(
        self.query_first, shape.padded_queries, shape.block_q, "query"
      ),
      "key_first": row_input(
        self.key_first, shape.padded_keys, shape.block_k, "key"
      ),
    }

  def _first(self, tile):
    """[1, block_q] and [block_k, 1] bool."""
    query = tile.ref["query_first"][...] != 0
    return query, tiles.column(tile.ref["key_first"][...]) != 0

  def score(self, tile):
    """[block_k, block_q] float32."""
    query, key = self._first(tile)
    inner = jnp.zeros(tile.size, jnp.float32)
    for term in self.terms:
      inner += term.score(tile)
    theta, head = tile.ref["theta"], 2 * tile.place.head
    return jnp.where(query, theta[head], jnp.where(key, theta[head + 1], inner))

  def gradients(self, shape):
    """Outputs by name."""
    found = {"d_theta": per_head(shape, 3, shape.padded_queries)}
    for term in self.terms:
      found |= term.gradients(shape)
    return found

  def accumulate(self, tile, found):
    """Adds a tile's gradient to the outputs."""
    query, key = self._first(tile)
    reset = query | key
    _sums_of_rows(tile, "d_theta", found, lambda x: jnp.where(reset, x, 0.0))
    rest = lambda x: jnp.where(reset, 0.0, x)
    found = dataclasses.replace(
      found, scores=rest(found.scores), weights=rest(found.weights)
    )
    for term in self.terms:
      term.accumulate(tile, found)

  def finish(self, shape, found):
    """Gradients by operand."""
    sums = _without_deltas_error(found["d_theta"], shape.queries)
    first = (self.query_first > 0)[:, None, :]
    parts = jnp.where(first, sums, 0.0), jnp.where(first, 0.0, sums)
    grads = {"theta": jnp.stack([jnp.sum(x, (0, 2)) for x in parts])}
    for term in self.terms:
      grads |= term.finish(shape, found)
    return grads


def _sums_of_rows(tile, name, found, part):
  """Adds to the output `name`, [3, queries], what a tile has of three sums.

  They are of the gradients of all scores, of part(those), and of how the
  latter depend on delta.
  """
  weights, block = found.weights, tile.shape.block_q
  if found.slope is not None:
    weights *= found.slope
  here = pl.ds(
    pl.multiple_of(tile.place.query * block, min(tiles.LANES, block)), block
  )
  for row, array in enumerate(
    (found.capped, part(found.scores), part(weights))
  ):
    tile.ref[name][row : row + 1, here] += jnp.sum(array, 0, keepdims=True)


def _without_deltas_error(sums, queries: int):
  """[batch, heads, queries] of what `_sums_of_rows` added up.

  A row's score gradients (after the cap) add up to 0 but for the error of
  delta, which was made of a rounded output. A gradient that is what is left
  of large terms that cancel would show that error: it is taken out.
  """
  error, found, weights = jnp.moveaxis(sums[..., :queries], 2, 0)
  return found - error * weights


def row_input(array, length: int, block: int, axis: str, fill=0) -> Input:
  """[1 or batch, n] as rows [1, block] of the tile's queries or keys."""
  shared = array.shape[0] == 1
  return Input(
    tiles.pad(array, 1, length, fill)[:, None],
    (None, 1, block),
    lambda p: (0 if shared else p.batch, 0, getattr(p, axis)),
  )


@dataclasses.dataclass(frozen=True)
class Dense:
  """Any score; its gradient is a kernel of its own, see `dense_gradient`.

  Attributes:
    array: [1 or batch, 1 or heads, queries, keys] floating.
  """

  array: jax.Array

  def inputs(self, shape):
    """Arrays by name."""
    rows, heads = self.array.shape[:2]
    array = jnp.swapaxes(self.array, 2, 3)
    array = tiles.pad(array, 2, shape.padded_keys)
    array = tiles.pad(array, 3, shape.padded_queries)
    return {
      "dense": Input(
        array,
        (None, None, shape.block_k, shape.block_q),
        lambda p: (
          0 if rows == 1 else p.batch,
          0 if heads == 1 else p.head,
          p.key,
          p.query,
        ),
      )
    }

  def score(self, tile):
    """[block_k, block_q] float32."""
    return tile.ref["dense"][...].astype(jnp.float32)

  def gradients(self, shape):
    """None here."""
    del shape
    return {}

  def accumulate(self, tile, found):
    """Nothing here."""

  def finish(self, shape, found):
    """None here."""
    del shape, found
    return {}
