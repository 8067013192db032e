"""Which blocks of keys a block of queries needs, known before the kernel runs.

Packed rows hold documents in order, so each block of queries sees one range
of blocks of keys. Ranges are computed by XLA from segment ids, causality and
the window, once, and read by every head: kernels loop over a range and mask
inside only where a block is not seen whole.
"""

import jax
import jax.numpy as jnp


def key_ranges(
  *,
  batch: int,
  queries: int,
  keys: int,
  block_q: int,
  block_k: int,
  query_segments=None,
  key_segments=None,
  causal: bool = False,
  window: tuple[int, int] | None = None,
  query_offset: int = 0,
) -> jax.Array:
  """[batch, query blocks, 4] int32: (low, full_low, full_high, high).

  Blocks [low, high) of keys hold every key that some query of the block
  sees; each query of the block sees all of every block in [full_low,
  full_high). low <= full_low <= full_high <= high. Blocks between may hide
  any number of their keys. Right for segment ids in any order; tight where
  they are contiguous (packed rows). Keys past `keys` count as hidden.

  Args:
    batch: rows.
    queries: number of queries; the last block may be partial.
    keys: number of keys.
    block_q: queries of a block.
    block_k: keys of a block.
    query_segments: [batch, queries] int32 or None; 0 is padding.
    key_segments: [batch, keys] int32 or None.
    causal: keys after the query are hidden.
    window: (before, after) keys that are seen, or None.
    query_offset: place of the first query among the keys.
  """
  q_blocks, k_blocks = -(-queries // block_q), -(-keys // block_k)
  first_q = (jnp.arange(q_blocks) * block_q + query_offset)[None, :, None]
  last_q = jnp.minimum(first_q + block_q, queries + query_offset) - 1
  first_k = (jnp.arange(k_blocks) * block_k)[None, None, :]
  last_k = first_k + block_k - 1  # also past `keys`: such a block is not full
  some = jnp.ones((1, q_blocks, k_blocks), bool)
  full = (last_k < keys) & some
  before = None if window is None else window[0]
  after = 0 if causal else None
  if window is not None:
    after = window[1] if after is None else min(after, window[1])
  if before is not None:
    some &= last_k >= first_q - before
    full &= first_k >= last_q - before
  if after is not None:
    some &= first_k <= last_q + after
    full &= last_k <= first_q + after
  if query_segments is not None:
    overlaps, same = _segments(
      query_segments, key_segments, q_blocks, k_blocks, block_q, block_k
    )
    some, full = some & overlaps, full & same
  ranges = _ranges(some, full & some)
  return jnp.broadcast_to(ranges, (batch, q_blocks, 4))


def query_ranges(
  *,
  batch: int,
  queries: int,
  keys: int,
  block_q: int,
  block_k: int,
  query_segments=None,
  key_segments=None,
  causal: bool = False,
  window: tuple[int, int] | None = None,
  query_offset: int = 0,
) -> jax.Array:
  """[batch, key blocks, 4] int32: `key_ranges` with the roles exchanged.

  Blocks of queries that see some key of each block of keys, and those whose
  every query sees the whole block; queries past `queries` count as blind.
  """
  before = 0 if causal else None  # queries before the key see nothing
  after = None
  if window is not None:
    before = window[1] if before is None else min(before, window[1])
    after = window[0]
  return key_ranges(
    batch=batch,
    queries=keys,
    keys=queries,
    block_q=block_k,
    block_k=block_q,
    query_segments=key_segments,
    key_segments=query_segments,
    window=None
    if before is None and after is None
    else (
      queries + keys + abs(query_offset) if before is None else before,
      queries + keys + abs(query_offset) if after is None else after,
    ),
    query_offset=-query_offset,
  )


def _segments(
  query_segments, key_segments, q_blocks, k_blocks, block_q, block_k
):
  """Blocks that may share a segment, and blocks of one and the same."""
  q = [x[:, :, None] for x in _extent(query_segments, q_blocks, block_q)]
  k = [x[:, None, :] for x in _extent(key_segments, k_blocks, block_k)]
  (q_low, q_high, q_padded), (k_low, k_high, k_padded) = q, k
  overlaps = (q_low <= k_high) & (k_low <= q_high) & (k_high > 0) & (q_high > 0)
  same = (q_low == q_high) & (k_low == k_high) & (q_low == k_low)
  return overlaps, same & ~q_padded & ~k_padded


def _extent(segments, blocks, block):
  """[batch, blocks]: lowest id, highest, whether there is padding.

  Padding does not stretch a block's extent; a block of nothing else has 0.
  """
  batch, length = segments.shape
  padded = jnp.pad(segments, ((0, 0), (0, blocks * block - length)))
  padded = padded.reshape(batch, blocks, block)
  real = padded > 0
  high = jnp.max(padded, -1)
  low = jnp.min(jnp.where(real, padded, high[..., None]), -1)
  return low, high, jnp.any(~real, -1)


def _ranges(some, full):
  """Extents [low, high) of `some`, and one full run inside of it."""
  count = some.shape[-1]
  index = jax.lax.broadcasted_iota(jnp.int32, some.shape, 2)
  low = jnp.min(jnp.where(some, index, count), -1)
  high = jnp.max(jnp.where(some, index + 1, 0), -1)
  low = jnp.minimum(low, high)
  full_low = jnp.min(jnp.where(full, index, count), -1)
  # The run of full blocks that starts at full_low ends at the first that is
  # not; later ones are masked like any other, which is right if slower.
  ends = (index >= full_low[..., None]) & ~full
  full_high = jnp.min(jnp.where(ends, index, count), -1)
  full_low = jnp.where(full_low < count, full_low, low)
  full_high = jnp.where(full_low < full_high, full_high, full_low)
  none = ~jnp.any(full, -1)
  full_low = jnp.where(none, low, full_low)
  full_high = jnp.where(none, low, full_high)
  return jnp.stack([low, full_low, full_high, high], -1).astype(jnp.int32)
