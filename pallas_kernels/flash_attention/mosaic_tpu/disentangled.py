"""DeBERTa's content-to-position and position-to-content scores.

Each query (or key) has a score per bucket of distances; a tile looks its
elements' buckets up. There is no gather from more than 128 lanes on TPU, so a
lookup is one gather for every 128 buckets; its gradient is a product with the
one-hot matrix of the strip's buckets, after the rows' shift is undone.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from pallas_kernels.flash_attention.mosaic_tpu import dots, skew, tiles
from pallas_kernels.flash_attention.mosaic_tpu.calls import Input, Output
from pallas_kernels.flash_attention.mosaic_tpu.terms import strip_of_queries


def _table(array, length: int):
  """[batch, n, heads, buckets] as [batch, heads, length, 128 * m]."""
  buckets = -(-array.shape[3] // tiles.LANES) * tiles.LANES
  return tiles.pad(tiles.features_last(array, length), 3, buckets)


def _untable(array, like):
  """`_table` undone."""
  _, n, _, buckets = like.shape
  return jnp.transpose(array[:, :, :n, :buckets], (0, 2, 1, 3))


def _look_up(table_ref, buckets_ref, here, rows: int):
  """[rows, columns] float32 of the tile whose strip lies `here`."""
  buckets = skew.skew(buckets_ref[:, here], rows)
  return skew.lookup(table_ref[...].astype(jnp.float32), buckets)


def _sum_up(grad, buckets, width: int, dtype):
  """The gradient of rows of a table, chunk by chunk.

  Args:
    grad: [rows, columns] float32.
    buckets: [1, rows + columns] int32.
    width: buckets of a row.
    dtype: of the matrix product.

  Yields:
    (first row, [chunk, width] float32).
  """
  rows, columns = grad.shape
  of = jax.lax.broadcasted_iota(jnp.int32, (width, rows + columns), 0)
  onehot = (of == buckets).astype(jnp.float32).astype(dtype)
  for start, part in skew.unskew(grad):
    chunk, wide = part.shape
    yield (
      rows - chunk - start,
      dots.dot(part.astype(dtype), onehot[:, start : start + wide], 1, 1),
    )


@dataclasses.dataclass(frozen=True)
class PositionToContent:
  """p2c[key, bucket of key - query].

  Attributes:
    array: [batch, keys, heads, buckets] floating.
    buckets: [queries + keys - 1] int32, by key - query.
  """

  array: jax.Array
  buckets: jax.Array

  def inputs(self, shape):
    """The table, and a strip of buckets by query - key."""
    table = _table(self.array, shape.padded_keys)
    before = shape.padded_keys - shape.keys + 1
    after = shape.padded_queries - shape.queries
    strip = jnp.pad(self.buckets[::-1], (before, after))[None]
    return {
      "p2c": Input(
        table,
        (None, None, shape.block_k, table.shape[3]),
        lambda p: (p.batch, p.head, p.key, 0),
      ),
      "p2c_buckets": Input(strip, strip.shape, lambda p: (0, 0)),
    }

  def score(self, tile):
    """[block_k, block_q] float32."""
    return _look_up(
      tile.ref["p2c"],
      tile.ref["p2c_buckets"],
      strip_of_queries(tile),
      tile.shape.block_k,
    )

  def gradients(self, shape):
    """Outputs by name; rows belong to a block of keys."""
    table = jax.eval_shape(lambda: _table(self.array, shape.padded_keys))
    return {
      "d_p2c": Output(
        table.shape,
        jnp.float32,
        (None, None, shape.block_k, table.shape[3]),
        lambda p: (p.batch, p.head, p.key, 0),
        zero="key",
      )
    }

  def accumulate(self, tile, grad):
    """Adds a tile's [block_k, block_q] gradient to the outputs."""
    out = tile.ref["d_p2c"]
    buckets = tile.ref["p2c_buckets"][:, strip_of_queries(tile)]
    dtype = tile.ref["p2c"].dtype
    for row, part in _sum_up(grad, buckets, out.shape[1], dtype):
      out[row : row + part.shape[0], :] += part

  def finish(self, shape, found):
    """Gradients by operand."""
    del shape
    return {"p2c": _untable(found["d_p2c"], self.array)}


@dataclasses.dataclass(frozen=True)
class ContentToPosition:
  """c2p[query, bucket of key - query]; made with rows of queries, then turned.

  Attributes:
    array: [batch, queries, heads, buckets] floating.
    buckets: [queries + keys - 1] int32, by key - query.
  """

  array: jax.Array
  buckets: jax.Array

  def inputs(self, shape):
    """The table, and a strip of buckets by key - query."""
    table = _table(self.array, shape.padded_queries)
    before = shape.padded_queries - shape.queries + 1
    after = shape.padded_keys - shape.keys
    strip = jnp.pad(self.buckets, (before, after))[None]
    return {
      "c2p": Input(
        table,
        (None, None, shape.block_q, table.shape[3]),
        lambda p: (p.batch, p.head, p.query, 0),
      ),
      "c2p_buckets": Input(strip, strip.shape, lambda p: (0, 0)),
    }

  def score(self, tile):
    """[block_k, block_q] float32."""
    found = _look_up(
      tile.ref["c2p"],
      tile.ref["c2p_buckets"],
      _strip_of_keys(tile),
      tile.shape.block_q,
    )
    return jnp.transpose(found)

  def gradients(self, shape):
    """Outputs by name; a head's queries all stay in fast memory."""
    table = jax.eval_shape(lambda: _table(self.array, shape.padded_queries))
    return {
      "d_c2p": Output(
        table.shape,
        jnp.float32,
        (None, None, *table.shape[2:]),
        lambda p: (p.batch, p.head, 0, 0),
        zero="head",
      )
    }

  def accumulate(self, tile, grad):
    """Adds a tile's [block_k, block_q] gradient to the outputs."""
    out, block = tile.ref["d_c2p"], tile.shape.block_q
    buckets = tile.ref["c2p_buckets"][:, _strip_of_keys(tile)]
    dtype = tile.ref["c2p"].dtype
    parts = _sum_up(jnp.transpose(grad), buckets, out.shape[1], dtype)
    for row, part in parts:
      top = pl.multiple_of(tile.place.query * block + row, part.shape[0])
      out[pl.ds(top, part.shape[0]), :] += part

  def finish(self, shape, found):
    """Gradients by operand."""
    del shape
    return {"c2p": _untable(found["d_c2p"], self.array)}


def _strip_of_keys(tile):
  """The part of a strip by key - query that a tile's rows of queries need."""
  shape = tile.shape
  start = (
    tile.place.key * shape.block_k
    - (tile.place.query + 1) * shape.block_q
    + shape.padded_queries
  )
  lanes = min(tiles.LANES, shape.block_q, shape.block_k)
  return pl.ds(pl.multiple_of(start, lanes), shape.block_q + shape.block_k)
