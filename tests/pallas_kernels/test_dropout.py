"""Dropout masks: the share kept, and no trace of place or key."""

import jax
import numpy as np
import pytest

from pallas_kernels import dropout


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_share(rate):
  kept = np.asarray(dropout.keep(jax.random.key(3), rate, (64, 32, 128)))
  error = (rate * (1 - rate) / kept.size) ** 0.5
  assert abs(kept.mean() - (1 - rate)) < 4 * error
  # Every row and column too, with more room as there are many.
  for axis in range(3):
    shares = kept.mean(axis=tuple(a for a in range(3) if a != axis))
    each = (rate * (1 - rate) * kept.shape[axis] / kept.size) ** 0.5
    assert np.abs(shares - (1 - rate)).max() < 5 * each


def test_neighbours_and_keys_are_independent():
  shape, rate = (512, 256), 0.5
  a, b = (
    np.asarray(dropout.keep(jax.random.key(k), rate, shape)) * 2.0 - 1
    for k in (0, 1)
  )
  limit = 4 / a.size**0.5
  assert abs((a * b).mean()) < limit
  for shift in (1, 2, 3, 64):
    assert abs((a[:, shift:] * a[:, :-shift]).mean()) < 1.1 * limit
    assert abs((a[shift:] * a[:-shift]).mean()) < 1.1 * limit


def test_same_key_same_mask_of_any_generator():
  for kind in ("threefry2x32", "rbg"):
    key = jax.random.key(5, impl=kind)
    first = dropout.keep(key, 0.3, (7, 9))
    again = jax.jit(lambda k: dropout.keep(k, 0.3, (7, 9)))(key)
    np.testing.assert_array_equal(first, again)
    other = dropout.keep(jax.random.key(6, impl=kind), 0.3, (7, 9))
    assert (np.asarray(first) != np.asarray(other)).any()


def test_tiny_rate_keeps_all():
  assert np.asarray(dropout.keep(jax.random.key(0), 1e-12, (100,))).all()


def test_mix_is_a_bijection_with_avalanche():
  values = np.arange(1 << 16, dtype=np.uint32)
  mixed = np.asarray(dropout.mix(values))
  assert len(np.unique(mixed)) == len(values)
  for bit in (0, 7, 31):
    flipped = np.asarray(dropout.mix(values ^ np.uint32(1 << bit)))
    share = np.unpackbits((mixed ^ flipped).view(np.uint8)).mean()
    assert abs(share - 0.5) < 0.01
