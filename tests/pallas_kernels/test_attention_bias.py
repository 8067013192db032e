"""Structured biases: slopes, buckets, sums."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.flash_attention import bias
from tests.pallas_kernels.attention_oracle import t5_bucket

# Press et al.'s slopes; those of 12 heads are also MosaicBERT's.
SLOPES = {
  1: [0.00390625],
  4: [0.25, 0.0625, 0.015625, 0.00390625],
  8: [2.0**-k for k in range(1, 9)],
  12: [2.0**-k for k in range(1, 9)]
  + [0.70710678, 0.35355339, 0.17677670, 0.08838835],
  16: [2.0 ** (-k / 2) for k in range(1, 17)],
}


@pytest.mark.parametrize("heads", SLOPES)
def test_alibi_slopes(heads):
  np.testing.assert_allclose(bias.alibi_slopes(heads), SLOPES[heads], rtol=1e-6)


def test_alibi_is_symmetric_and_linear():
  term = bias.Alibi(bias.alibi_slopes(12))
  dense = np.asarray(term.dense(jnp.arange(9), jnp.arange(9)))
  assert dense.shape == (1, 12, 9, 9) and dense.dtype == np.float32
  np.testing.assert_array_equal(dense, dense.swapaxes(2, 3))
  np.testing.assert_allclose(dense[0, 8, 2, 7], -0.70710678 * 5, rtol=1e-6)
  assert np.abs(np.diagonal(dense, axis1=2, axis2=3)).max() == 0.0


@pytest.mark.parametrize(
  "term",
  [
    bias.Alibi(bias.alibi_slopes(4)),
    bias.Buckets(jnp.arange(128.0).reshape(32, 4)),
  ],
  ids=["alibi", "buckets"],
)
def test_a_crop_is_the_bias_of_the_crop(term):
  """Rows 3..7 against keys 0..9 are those rows of the whole."""
  whole = np.asarray(term.dense(jnp.arange(20), jnp.arange(20)))
  part = term.dense(jnp.arange(3, 8), jnp.arange(10))
  np.testing.assert_array_equal(part, whole[:, :, 3:8, :10])


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "longest"), [(32, 128), (16, 40), (8, 20)])
def test_buckets_equal_the_slow_formula(buckets, longest, bidirectional):
  distance = np.arange(-300, 301)
  options = dict(
    buckets=buckets, max_distance=longest, bidirectional=bidirectional
  )
  expected = [
    t5_bucket(int(d), buckets, longest, bidirectional) for d in distance
  ]
  run = lambda d: bias.relative_bucket(d, **options)
  np.testing.assert_array_equal(run(distance), expected)
  np.testing.assert_array_equal(jax.jit(run)(distance), expected)


def test_t5_buckets_golden():
  """T5's defaults, both sides: exact to 7, then 8, 12, 16, 23, 32, 46 ..."""
  distance = np.array([0, -1, -7, -8, -11, -12, -16, -32, -64, -127, 1, 8, 500])
  found = bias.relative_bucket(
    distance, buckets=32, max_distance=128, bidirectional=True
  )
  np.testing.assert_array_equal(
    found, [0, 1, 7, 8, 8, 9, 10, 12, 14, 15, 17, 24, 31]
  )


def test_buckets_read_their_table():
  table = jnp.arange(32.0 * 4).reshape(32, 4)
  dense = bias.Buckets(table).dense(jnp.arange(5), jnp.arange(5))
  assert dense.shape == (1, 4, 5, 5)
  assert dense[0, 2, 3, 1] == table[2, 2]  # the key 2 before
  assert dense[0, 2, 1, 3] == table[16 + 2, 2]  # the key 2 after


def test_add_takes_nothing_for_an_answer():
  alibi = bias.Alibi(bias.alibi_slopes(4))
  assert bias.add(None, None) is None
  assert bias.add(alibi, None) is alibi and bias.add(None, alibi) is alibi
  dense = bias.Dense(jnp.ones((2, 1, 3, 3)))
  both = bias.add(alibi, dense).dense(jnp.arange(3), jnp.arange(3))
  assert both.shape == (2, 4, 3, 3)
  expected = 1 - 2 * math.pow(2, -2)
  assert math.isclose(float(both[1, 0, 0, 2]), expected, rel_tol=1e-6)


def test_biases_pass_through_transformations():
  term = bias.Buckets(jnp.ones((32, 4)), bidirectional=False, max_distance=64)
  back = jax.jit(lambda t: t)(term)
  assert (back.bidirectional, back.max_distance) == (False, 64)
  assert len(jax.tree.leaves(bias.add(term, term))) == 2
