"""Block ranges hold every visible key, and full blocks hide none."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.flash_attention import masks, reference

SEGMENTS = np.array(
  [
    [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 0, 0, 0],
    [1] * 20,
    [0] * 20,
    [3, 3, 1, 1, 1, 1, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1],
  ],
  np.int32,
)


@pytest.mark.parametrize(
  ("causal", "window", "offset", "packed"),
  list(
    itertools.product(
      [False, True], [None, (3, 2), (0, 6), (5, 0)], [0, 3], [False, True]
    )
  ),
)
def test_ranges_match_the_dense_mask(causal, window, offset, packed):
  length, block_q, block_k = 20, 3, 4
  rows = len(SEGMENTS) if packed else 2
  segments = SEGMENTS if packed else None
  seen = reference.visible(
    jnp.arange(length) + offset,
    jnp.arange(length),
    query_segments=segments,
    key_segments=segments,
    causal=causal,
    window=window,
  )
  seen = np.ones((1, 1, length, length), bool) if seen is None else seen
  seen = np.broadcast_to(np.asarray(seen)[:, 0], (rows, length, length))
  options = dict(
    batch=rows,
    queries=length,
    keys=length,
    block_q=block_q,
    block_k=block_k,
    query_segments=segments,
    key_segments=segments,
    causal=causal,
    window=window,
    query_offset=offset,
  )
  _check(masks.key_ranges(**options), seen, block_q, block_k)
  _check(
    masks.query_ranges(**options), seen.transpose(0, 2, 1), block_k, block_q
  )


def _check(ranges, seen, block_q, block_k):
  ranges = np.asarray(ranges)
  rows, queries, keys = seen.shape
  assert ranges.shape == (rows, -(-queries // block_q), 4)
  for row, block in itertools.product(range(rows), range(ranges.shape[1])):
    low, full_low, full_high, high = ranges[row, block]
    assert 0 <= low <= full_low <= full_high <= high <= -(-keys // block_k)
    part = seen[row, block * block_q : (block + 1) * block_q]
    outside = np.ones(keys, bool)
    outside[low * block_k : high * block_k] = False
    assert not part[:, outside].any()
    assert full_high * block_k <= keys
    assert part[:, full_low * block_k : full_high * block_k].all()


def test_packed_documents_skip_the_others():
  """Four documents of 8 in blocks of 4: two blocks each, both full."""
  segments = np.repeat(np.arange(1, 5, dtype=np.int32), 8)[None]
  found = masks.key_ranges(
    batch=1,
    queries=32,
    keys=32,
    block_q=4,
    block_k=4,
    query_segments=segments,
    key_segments=segments,
  )
  low = np.repeat(np.arange(4) * 2, 2)
  np.testing.assert_array_equal(
    found[0], np.stack([low, low, low + 2, low + 2], -1)
  )


def test_window_and_causality_skip_what_lies_outside():
  found = masks.key_ranges(
    batch=1, queries=16, keys=16, block_q=4, block_k=4, causal=True
  )
  np.testing.assert_array_equal(
    found[0], [[0, 0, 0, 1], [0, 0, 1, 2], [0, 0, 2, 3], [0, 0, 3, 4]]
  )
  found = masks.key_ranges(
    batch=1, queries=16, keys=16, block_q=4, block_k=4, window=(4, 4)
  )
  np.testing.assert_array_equal(
    found[0, :, [0, 3]], [[0, 0, 1, 2], [2, 3, 4, 4]]
  )
