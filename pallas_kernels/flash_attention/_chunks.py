"""A call of chunked attention, cut into blocks of keys.

Biases of a block are a differentiable function of what all blocks share and
of what is the block's own: their gradients are derived, not written.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels import dropout
from pallas_kernels.flash_attention import bias as biases
from pallas_kernels.flash_attention import reference
from pallas_kernels.flash_attention.operands import Operands, Static


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Tile sizes.

  Attributes:
    block: keys of a step, and queries that share a window of distances.
  """

  block: int = 256


class Call:
  """Sizes of a call, and its operands cut into blocks.

  Attributes:
    shared: by name, what every block of keys needs; its queries are padded to
      whole blocks.
    own: by name, arrays [key blocks, ...] of what is each block's own.
  """

  def __init__(self, static: Static, operands: Operands):
    self.static = static
    self.batch, self.queries, self.heads, _ = operands.query.shape
    _, self.keys, self.key_heads, self.value_dim = operands.value.shape
    block = (static.blocks or Blocks()).block
    self.block_q = min(block, self.queries)
    self.block_k = min(block, self.keys)
    self.q_blocks = -(-self.queries // self.block_q)
    self.k_blocks = -(-self.keys // self.block_k)
    self.rows = self.q_blocks * self.block_q
    self.dtype = operands.query.dtype
    self.wide = jnp.promote_types(self.dtype, jnp.float32)
    self._cut(_without_padding(operands))

  def _cut(self, operands):
    over_rows = lambda x, axis: padded(x, axis, self.rows)
    take = lambda *names: {
      name: getattr(operands, name)
      for name in names
      if getattr(operands, name) is not None
    }
    self.shared = take(
      "slopes", "toeplitz", "theta", "c2p_buckets", "p2c_buckets", "column_seed"
    )
    rows = take("query", "query_segments", "query_first", "c2p")
    self.shared |= {name: over_rows(x, 1) for name, x in rows.items()}
    for name, x in take("row_hash").items():
      self.shared[name] = over_rows(x, 2)
    self.own = {
      name: self.cut_keys(x, 1)
      for name, x in take(
        "key", "value", "key_segments", "key_first", "p2c"
      ).items()
    }
    for name, x in take("dense").items():
      self.own[name] = self.cut_keys(over_rows(x, 2), 3)
    self.own["start"] = jnp.arange(self.k_blocks) * self.block_k

  def cut_keys(self, x, axis):
    """[..., keys, ...] -> [key blocks, ..., block, ...]."""
    x = padded(x, axis, self.k_blocks * self.block_k)
    shape = (*x.shape[:axis], self.k_blocks, self.block_k, *x.shape[axis + 1 :])
    return jnp.moveaxis(x.reshape(shape), axis, 0)

  def join_keys(self, x, axis):
    """The inverse of `cut_keys`."""
    x = jnp.moveaxis(x, 0, axis)
    joined = (*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x.reshape(joined), 0, self.keys, axis=axis)

  def spread(self, x):
    """[batch, block, key_heads, channels] -> the same for all heads."""
    return jnp.repeat(x, self.heads // self.key_heads, axis=2)

  def gathered(self, x):
    """The transpose of `spread`."""
    batch, block, _, channels = x.shape
    return x.reshape(batch, block, self.key_heads, -1, channels).sum(3)

  def seen(self, own):
    """[1 or batch, 1, rows, block] bool."""
    i = jnp.arange(self.rows)
    j = own["start"] + jnp.arange(self.block_k)
    seen = ((i < self.queries)[:, None] & (j < self.keys)[None])[None, None]
    rules = reference.visible(
      self.static.query_offset + i,
      j,
      query_segments=self.shared.get("query_segments"),
      key_segments=own.get("key_segments"),
      causal=self.static.causal,
      window=self.static.window,
    )
    return seen if rules is None else seen & rules

  def products(self, own):
    """scale * query . key, [batch, heads, rows, block] in float32 or wider."""
    found = jnp.einsum(
      "bihd,bjhd->bhij",
      self.shared["query"],
      self.spread(own["key"]),
      preferred_element_type=self.wide,
    )
    return found * self.static.scale

  def kept(self, own):
    """The same shape: 1 / (1 - rate) where dropout keeps, 0 elsewhere."""
    rate = self.static.dropout_rate
    column = (own["start"] + jnp.arange(self.block_k)).astype(jnp.uint32)
    column = (column + self.shared["column_seed"])[None, None, None]
    bits = dropout.mix(self.shared["row_hash"][..., None] ^ column)
    keep = bits < np.uint32(dropout.keep_below(rate))
    return jnp.where(keep, 1.0 / (1.0 - rate), 0.0).astype(self.wide)


class Terms:
  """The terms of a score besides the product, differentiable.

  Terms by distance are read in windows of block_q + block_k - 1 distances, so
  that neither they nor their gradients are gathered element by element.
  """

  def __init__(self, call: Call):
    self.call = call

  def floating(self, values: dict) -> dict:
    """Those of `call.shared` or a block of `call.own` that it depends on."""
    names = ("slopes", "toeplitz", "theta", "c2p", "p2c", "dense")
    return {name: values[name] for name in names if name in values}

  def __call__(self, shared, own, start, key_first):
    """[batch, heads, rows, block_k], or None.

    Args:
      shared: floating terms, by name.
      own: floating terms of the block of keys.
      start: its first key.
      key_first: [1 or batch, block_k], or None.
    """
    call, total = self.call, None
    place = self._places(start)
    if "toeplitz" in shared:
      windows = shared["toeplitz"][:, place]  # [heads, q_blocks, window]
      total = self._skewed(windows[None, :, :, None])
    if "slopes" in shared:
      i = jnp.arange(call.rows) + call.static.query_offset
      away = jnp.abs(start + jnp.arange(call.block_k)[None] - i[:, None])
      total = _sum(
        total, -shared["slopes"][None, :, None, None] * away[None, None]
      )
    if "theta" in shared:
      total = self._reset(shared["theta"], total, key_first)
    if "dense" in own:
      total = _sum(total, own["dense"].astype(call.wide))
    if "c2p" in shared:
      total = _sum(total, self._c2p(shared["c2p"], place))
    if "p2c" in own:
      total = _sum(total, self._p2c(own["p2c"], place))
    if total is None:
      return None
    shape = (call.batch, call.heads, call.rows, call.block_k)
    return jnp.broadcast_to(total.astype(call.wide), shape)

  def _places(self, start):
    """[q_blocks, window] int32: where vectors by distance are read.

    What lies past their ends belongs to padding, and is hidden.
    """
    call = self.call
    first = start - jnp.arange(call.q_blocks) * call.block_q - call.block_q + 1
    window = jnp.arange(call.block_q + call.block_k - 1)
    place = first[:, None] + window[None] + call.queries - 1
    return jnp.clip(place, 0, call.queries + call.keys - 2)

  def _skewed(self, windows):
    """[., heads, rows, block_k] of windows [., heads, q_blocks, ., window]."""
    call = self.call
    batch, heads, blocks, _, width = windows.shape
    shape = (batch, heads, blocks, call.block_q, width)
    tiles = biases.skew(jnp.broadcast_to(windows, shape))
    return tiles.reshape(batch, heads, call.rows, call.block_k)

  def _reset(self, theta, total, key_first):
    theta = theta[:, None, :, None, None]
    total = jnp.zeros((1, 1, 1, 1), theta.dtype) if total is None else total
    at_query = (self.call.shared["query_first"] > 0)[:, None, :, None]
    at_key = (key_first > 0)[:, None, None, :]
    return jnp.where(at_query, theta[0], jnp.where(at_key, theta[1], total))

  def _c2p(self, table, place):
    call = self.call
    buckets = call.shared["c2p_buckets"][place]  # [q_blocks, window]
    shape = (call.batch, call.q_blocks, call.block_q, call.heads, -1)
    rows = jnp.moveaxis(table.reshape(shape), 3, 1)
    take = lambda rows, buckets: jnp.take(rows, buckets, axis=-1)
    return self._skewed(jax.vmap(take, (2, 0), 2)(rows, buckets))

  def _p2c(self, table, place):
    call = self.call
    # Seen from a key, distances of the queries count the other way.
    buckets = call.shared["p2c_buckets"][place][:, ::-1]
    rows = jnp.moveaxis(table.astype(call.wide), 1, 2)
    found = jnp.take(rows, buckets, axis=3)  # [b, h, block_k, q_blocks, window]
    tiles = biases.skew(jnp.moveaxis(found, 3, 2))
    tiles = jnp.swapaxes(tiles, 3, 4)
    return tiles.reshape(call.batch, call.heads, call.rows, call.block_k)


def _without_padding(operands: Operands) -> Operands:
  """NaN at padding replaced, and sums over blocks prepared to be exact."""
  wide = lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32))
  changed = {}
  if operands.query_segments is not None:
    for name in ("query", "key", "value"):
      side = "query" if name == "query" else "key"
      changed[name] = reference.without_padding(
        getattr(operands, name), getattr(operands, f"{side}_segments")
      )
  for name in ("slopes", "toeplitz", "theta", "c2p"):
    if getattr(operands, name) is not None:
      changed[name] = wide(getattr(operands, name))
  return dataclasses.replace(operands, **changed)


def padded(x, axis: int, length: int):
  """x with zeros after it, `length` long."""
  if x.shape[axis] == length:
    return x
  widths = [(0, 0)] * x.ndim
  widths[axis] = (0, length - x.shape[axis])
  return jnp.pad(x, widths)


def _sum(total, term):
  return term if total is None else total + term
