"""Structured biases: slopes, buckets, sums."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.flash_attention import bias, operands
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


def test_toeplitz_and_disentangled_are_read_by_distance():
  """Entry by entry; one query, one key, and more of either."""
  rng = np.random.default_rng(0)
  for queries, keys in ((3, 5), (1, 4), (4, 1)):
    values = rng.standard_normal((2, queries + keys - 1)).astype(np.float32)
    c2p = rng.standard_normal((2, queries, 2, 6)).astype(np.float32)
    p2c = rng.standard_normal((2, keys, 2, 6)).astype(np.float32)
    buckets = rng.integers(0, 6, (2, queries + keys - 1))
    places = 7 + jnp.arange(queries), jnp.arange(keys)
    by_distance = bias.Toeplitz(jnp.asarray(values)).dense(*places)
    both = bias.Disentangled(jnp.asarray(c2p), jnp.asarray(p2c), *buckets)
    both = both.dense(*places)
    one = bias.Disentangled(None, jnp.asarray(p2c), None, buckets[1])
    one = one.dense(*places)
    shape = (2, 2, queries, keys)
    assert by_distance.shape == (1, *shape[1:]) and both.shape == shape
    for b, h, i, j in np.ndindex(shape):
      d = j - i + queries - 1
      second = p2c[b, j, h, buckets[1][d]]
      assert by_distance[0, h, i, j] == values[h, d]
      assert one[b, h, i, j] == second
      assert both[b, h, i, j] == c2p[b, i, h, buckets[0][d]] + second


def test_a_vector_of_the_wrong_length_raises():
  term = bias.Toeplitz(jnp.zeros((2, 9)))
  with pytest.raises(ValueError, match="9 distances; 5 queries and 6 keys"):
    term.dense(jnp.arange(5), jnp.arange(6))


def test_tupe_resets_rows_and_columns_of_first_tokens():
  """The sheet's oracle (b): constant, whatever the distance, per document."""
  heads, length = 2, 7
  query, key = (
    jax.random.normal(jax.random.key(n), (1, length, heads, 3)) for n in (0, 1)
  )
  first = jnp.asarray([[1, 0, 0, 1, 0, 0, 0]])
  theta = jnp.asarray([[10.0, 11.0], [20.0, 21.0]])
  untied = bias.Untied(query, key)
  term = bias.Reset(untied, theta, first, first)
  places = jnp.arange(length), jnp.arange(length)
  found = np.asarray(term.dense(*places))
  inner = np.asarray(untied.dense(*places))
  np.testing.assert_allclose(
    inner, np.einsum("bihd,bjhd->bhij", query, key), rtol=1e-5, atol=1e-6
  )
  firsts, others = [0, 3], [1, 2, 4, 5, 6]
  for head in range(heads):
    assert (found[0, head, firsts] == 10.0 + head).all()
    assert (found[0, head, others][:, firsts] == 20.0 + head).all()
  between = np.ix_([0], range(heads), others, others)
  np.testing.assert_array_equal(found[between], inner[between])
  empty = bias.Reset(None, theta, first, first).dense(*places)
  assert np.count_nonzero(np.asarray(empty)[between]) == 0


def test_deberta_buckets_golden():
  """The sheet's values of v2 and v3, and both signs."""
  distance = np.array([0, 127, 128, 129, 130, 200, 300, 400, 510, 511, 900])
  expected = [0, 127, 128, 129, 130, 169, 207, 233, 255, 255, 255]
  run = lambda d: bias.log_bucket(d, buckets=256, max_distance=512)
  np.testing.assert_array_equal(run(distance), expected)
  np.testing.assert_array_equal(run(-distance), -np.array(expected))


def test_deberta_rows_of_its_table():
  """delta(i, j) = clip(bucket(i - j) + span, 0, 2 span - 1)."""
  options = dict(span=4, buckets=4, max_distance=8, query_offset=2)
  queries, keys = 3, 9
  vector = bias.disentangled_buckets(queries, keys, **options)
  swapped = bias.disentangled_buckets(queries, keys, **options, swapped=True)
  assert vector.shape == (11,) and vector.dtype == np.int32
  for i, j in np.ndindex(queries, keys):
    bucket = int(bias.log_bucket(i + 2 - j, buckets=4, max_distance=8))
    place = j - i + queries - 1
    assert vector[place] == np.clip(bucket + 4, 0, 7)
    assert swapped[place] == np.clip(-bucket + 4, 0, 7)
  # v1 has a row for each distance.
  np.testing.assert_array_equal(
    bias.disentangled_buckets(3, 3, span=2), [3, 3, 2, 1, 0]
  )


LENGTH, HEADS, SCALE = 6, 2, 0.3
FIRST = np.eye(1, LENGTH, dtype=bool)
ALIBI = bias.Alibi(jnp.ones(HEADS))
TABLE = jnp.arange(8.0 * HEADS).reshape(8, HEADS)


def lower(term, **options):
  """`operands.lower` of a small call."""
  query = jnp.ones((2, LENGTH, HEADS, 4), options.pop("dtype", "float32"))
  key = query[:, :, : options.pop("key_heads", HEADS)]
  none = dict.fromkeys(
    ("query_segments", "key_segments", "window", "soft_cap", "dropout_key")
  )
  plain = dict(query_offset=0, causal=False, scale=SCALE, dropout_rate=0.0)
  return operands.lower(query, key, key, bias=term, **none | plain | options)


def test_untied_positions_become_channels():
  """Divided by the scale, zero at first tokens, rounded once."""
  query, key = (
    jax.random.normal(jax.random.key(n), (1, LENGTH, HEADS, 3), "bfloat16")
    for n in (0, 1)
  )
  scaled = query.astype(jnp.float32) * SCALE
  term = bias.Reset(
    bias.Untied(scaled, key), jnp.ones((2, HEADS)), FIRST, FIRST
  )
  _, found = lower(term, dtype="bfloat16", key_heads=1)
  assert found.query.dtype == found.key.dtype == jnp.bfloat16
  assert found.query.shape == found.key.shape == (2, LENGTH, HEADS, 7)
  assert found.value.shape == (2, LENGTH, HEADS, 4)
  for side, given in ((found.query, query), (found.key, key)):
    more = np.asarray(side[..., 4:], np.float32)
    assert np.count_nonzero(more[:, 0]) == 0
    wanted = np.asarray(given, np.float32)[:, 1:].repeat(2, 0)
    np.testing.assert_array_equal(more[:, 1:], wanted)


def test_terms_of_a_kind_are_added_up():
  rows = bias.Dense(jnp.full((2, 1, LENGTH, LENGTH), 2.0))
  heads = bias.Dense(jnp.full((1, HEADS, LENGTH, LENGTH), 3.0))
  table = bias.Buckets(TABLE, max_distance=20)
  values = bias.Toeplitz(jnp.full((HEADS, 2 * LENGTH - 1), 0.5))
  _, found = lower(bias.Sum((rows, ALIBI, table, heads, values, ALIBI)))
  assert found.dense.shape == (2, HEADS, LENGTH, LENGTH)
  assert float(found.dense.min()) == float(found.dense.max()) == 5.0
  np.testing.assert_array_equal(found.slopes, [2.0, 2.0])
  # The key before has bucket 1 of 8, the one after 1 of the other four.
  place = LENGTH - 1
  np.testing.assert_array_equal(found.toeplitz[:, place - 1], TABLE[1] + 0.5)
  np.testing.assert_array_equal(found.toeplitz[:, place + 1], TABLE[5] + 0.5)


def test_a_dense_bias_inside_of_a_reset_is_reset():
  array = jax.random.normal(jax.random.key(0), (1, HEADS, LENGTH, LENGTH))
  term = bias.Reset(bias.Dense(array), jnp.ones((2, HEADS)), FIRST, FIRST)
  _, found = lower(term)
  assert np.count_nonzero(found.dense[:, :, 0]) == 0
  assert np.count_nonzero(found.dense[:, :, :, 0]) == 0
  np.testing.assert_array_equal(found.dense[:, :, 1:, 1:], array[:, :, 1:, 1:])
  np.testing.assert_array_equal(found.query_first, FIRST)


def _reset(inner):
  return bias.Reset(inner, jnp.ones((2, HEADS)), FIRST, FIRST)


C2P = bias.Disentangled(
  jnp.ones((2, LENGTH, HEADS, 3)), None, np.zeros(2 * LENGTH - 1, int), None
)


@pytest.mark.parametrize(
  ("term", "reason"),
  [
    (bias.add(_reset(None), ALIBI), "Alibi outside of a Reset"),
    (
      bias.add(bias.Buckets(TABLE), _reset(ALIBI)),
      "Buckets outside of a Reset",
    ),
    (bias.add(_reset(ALIBI), _reset(None)), "one Reset"),
    (_reset(_reset(ALIBI)), "one Reset"),
    (_reset(C2P), "cannot reset Disentangled"),
    (bias.add(C2P, C2P), "one c2p term"),
    (object(), "no bias of type object"),
  ],
)
def test_what_no_formula_says_is_refused(term, reason):
  with pytest.raises(NotImplementedError, match=reason):
    lower(term)


def test_an_offset_known_too_late_is_refused():
  with pytest.raises(NotImplementedError, match="query_offset that is known"):
    jax.jit(lambda n: lower(None, query_offset=n)[1].query)(3)
  static, _ = lower(None, query_offset=np.int64(3), window=(4, np.int32(5)))
  assert static == operands.Static(
    window=(4, 5), scale=SCALE, query_offset=3
  ) and isinstance(hash(static), int)
