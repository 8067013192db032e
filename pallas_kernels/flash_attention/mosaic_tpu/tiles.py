"""Sizes of a problem, its tiles, and how arrays lie for the kernels.

Tiles hold scores as [keys, queries]: what belongs to a query (maximum, sum,
lse, delta, segment) is then one row along the lanes, reductions over keys run
down the sublanes, and no matrix product transposes a tile. Arrays of queries
lie as [batch, heads, features, positions], so that 64 features fill all lanes.
"""

import dataclasses

import jax
import jax.numpy as jnp

LANES = 128


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Tile sizes; multiples of 128 on TPU.

  Attributes:
    query: queries of a tile in the forward pass.
    key: keys of a tile in the forward pass.
    query_backward: queries of a tile in the backward pass.
    key_backward: keys of a tile in the backward pass.
  """

  query: int = 512
  key: int = 512
  query_backward: int = 512
  key_backward: int = 512


# Interpreted tiles are small, so that short tests cross their borders.
INTERPRETED = Blocks(32, 64, 64, 32)


@dataclasses.dataclass(frozen=True)
class Shape:
  """Sizes of one call; lengths without padding.

  Attributes:
    batch: rows.
    heads: of queries.
    key_heads: of keys and values; divides heads.
    queries: number of queries.
    keys: number of keys.
    head_dim: channels of query and key.
    value_dim: channels of value.
    block_q: queries of a tile.
    block_k: keys of a tile.
  """

  batch: int
  heads: int
  key_heads: int
  queries: int
  keys: int
  head_dim: int
  value_dim: int
  block_q: int
  block_k: int

  @property
  def group(self) -> int:
    """Query heads that share a key head."""
    return self.heads // self.key_heads

  def key_head(self, head):
    """The key head of a (traced) query head."""
    # Not `//`: it lowers to a sign, which asks for the process's own device.
    return head if self.group == 1 else jax.lax.div(head, self.group)

  @property
  def q_blocks(self) -> int:
    """Tiles along the queries."""
    return -(-self.queries // self.block_q)

  @property
  def k_blocks(self) -> int:
    """Tiles along the keys."""
    return -(-self.keys // self.block_k)

  @property
  def padded_queries(self) -> int:
    """Queries of whole tiles."""
    return self.q_blocks * self.block_q

  @property
  def padded_keys(self) -> int:
    """Keys of whole tiles."""
    return self.k_blocks * self.block_k


def shape_of(static, operands, backward: bool = False) -> Shape:
  """The call's `Shape`, with tiles no longer than the lengths need."""
  chosen = static.blocks
  if chosen is None:
    chosen = INTERPRETED if static.interpret else Blocks()
  block_q = chosen.query_backward if backward else chosen.query
  block_k = chosen.key_backward if backward else chosen.key
  batch, queries, heads, head_dim = operands.query.shape
  _, keys, key_heads, value_dim = operands.value.shape
  if not static.interpret:
    block_q = min(block_q, -(-queries // LANES) * LANES)
    block_k = min(block_k, -(-keys // LANES) * LANES)
  return Shape(
    batch,
    heads,
    key_heads,
    queries,
    keys,
    head_dim,
    value_dim,
    block_q,
    block_k,
  )


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a tile lies: indices of batch row, head, and blocks."""

  batch: jax.Array
  head: jax.Array
  query: jax.Array
  key: jax.Array


@dataclasses.dataclass(frozen=True)
class Tile:
  """What a kernel knows of the tile it works on.

  Attributes:
    ref: kernel references by name.
    place: where it lies.
    shape: sizes of the call.
  """

  ref: dict
  place: Place
  shape: Shape

  @property
  def size(self) -> tuple[int, int]:
    """(keys, queries) of the tile."""
    return self.shape.block_k, self.shape.block_q

  def keys(self):
    """[block_k, block_q] int32, each element's key."""
    start = self.place.key * self.shape.block_k
    return jax.lax.broadcasted_iota(jnp.int32, self.size, 0) + start

  def distance(self, offset: int):
    """[block_k, block_q] int32: key - query - offset."""
    down = jax.lax.broadcasted_iota(jnp.int32, self.size, 0)
    across = jax.lax.broadcasted_iota(jnp.int32, self.size, 1)
    start = (
      self.place.key * self.shape.block_k
      - self.place.query * self.shape.block_q
      - offset
    )
    return down - across + start


def column(row):
  """[1, n] of 32-bit elements as [n, 1]."""
  return jnp.transpose(jnp.broadcast_to(row, (8, row.shape[1])))[:, :1]


def pad(array, axis: int, length: int, fill=0):
  """`array` with `axis` grown to `length`."""
  widths = [(0, 0)] * array.ndim
  widths[axis] = (0, length - array.shape[axis])
  return jnp.pad(array, widths, constant_values=fill)


def blank(array, segments):
  """[batch, length, heads, dim] with 0 where padding may hold NaN."""
  if segments is None:
    return array
  return jnp.where((segments > 0)[:, :, None, None], array, 0)


def positions_last(array, length: int):
  """[batch, n, heads, dim] as [batch, heads, dim, length]."""
  return pad(jnp.transpose(array, (0, 2, 3, 1)), 3, length)


def features_last(array, length: int):
  """[batch, n, heads, dim] as [batch, heads, length, dim]."""
  return pad(jnp.transpose(array, (0, 2, 1, 3)), 2, length)
