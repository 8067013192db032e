"""The attention op against a loop in float64 and against jax.nn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from pallas_kernels.flash_attention import bias as biases
from pallas_kernels.flash_attention import (
  choose,
  flash_attention,
  implementations,
)
from tests import tiny
from tests.pallas_kernels.attention_contract import AttentionContract

B, L, H, G, D = 2, 12, 4, 2, 8  # batch, length, heads, key heads, head width
SEGMENTS = np.array([[1] * 5 + [2] * 4 + [0] * 3, [1] * 12], np.int32)


class TestContract(AttentionContract):
  implementation = "reference"


def arrays(key_heads=H, queries=L, keys=L, seed=0):
  rng = np.random.default_rng(seed)
  return (
    rng.standard_normal((B, queries, H, D)),
    rng.standard_normal((B, keys, key_heads, D)),
    rng.standard_normal((B, keys, key_heads, D)),
  )


def slow(
  query,
  key,
  value,
  *,
  bias=None,
  segments=None,
  key_segments=None,
  query_offset=0,
  causal=False,
  window=None,
  scale=None,
  soft_cap=None,
):
  """One score at a time, float64, from the definition."""
  key_segments = segments if key_segments is None else key_segments
  scale = D**-0.5 if scale is None else scale
  out = np.zeros(query.shape)
  places = itertools.product(*(range(n) for n in query.shape[:3]))
  for b, i, h in places:
    g = h * key.shape[2] // query.shape[2]
    place = i + query_offset
    seen, scores = [], []
    for j in range(key.shape[1]):
      if causal and j > place:
        continue
      if window and not -window[0] <= j - place <= window[1]:
        continue
      if segments is not None and (
        key_segments[b, j] == 0 or key_segments[b, j] != segments[b, i]
      ):
        continue
      score = scale * np.dot(query[b, i, h], key[b, j, g])
      if bias is not None:
        score += bias[min(b, bias.shape[0] - 1), h, i, j]
      if soft_cap is not None:
        score = soft_cap * np.tanh(score / soft_cap)
      seen.append(j)
      scores.append(score)
    if seen:
      weights = np.exp(np.array(scores) - max(scores))
      out[b, i, h] = weights / weights.sum() @ value[b, seen, g]
  return out


OPTIONS = {
  "plain": {},
  "causal": dict(causal=True),
  "window": dict(window=(2, 1)),
  "causal window": dict(causal=True, window=(3, 0)),
  "segments": dict(segments=SEGMENTS),
  "segments causal window": dict(
    segments=SEGMENTS, causal=True, window=(2, 2), scale=0.7
  ),
  "soft cap": dict(soft_cap=1.5),
  "no keys in reach": dict(window=(-3, 3)),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("key_heads", [H, G, 1])
def test_equals_the_definition(name, key_heads):
  query, key, value = arrays(key_heads)
  with jax.enable_x64(True):
    out = flash_attention(
      *map(jnp.asarray, (query, key, value)), **OPTIONS[name]
    )
    assert out.dtype == jnp.float64
    np.testing.assert_allclose(
      out, slow(query, key, value, **OPTIONS[name]), atol=1e-12
    )


@pytest.mark.parametrize("rows", [1, B])
def test_a_bias_is_added_before_the_cap(rows):
  query, key, value = arrays()
  dense = np.random.default_rng(3).standard_normal((rows, H, L, L))
  options = dict(segments=SEGMENTS, soft_cap=2.0)
  with jax.enable_x64(True):
    out = flash_attention(
      *map(jnp.asarray, (query, key, value)),
      bias=biases.Dense(jnp.asarray(dense)),
      **options,
    )
    np.testing.assert_allclose(
      out, slow(query, key, value, bias=dense, **options), atol=1e-12
    )


def test_queries_may_start_among_the_keys():
  """Decoding: 3 queries at places 6..8 of 12 keys, one row padded left."""
  query, key, value = arrays(queries=3)
  key_segments = np.array([[1] * 9 + [0] * 3, [0] * 2 + [1] * 7 + [0] * 3])
  options = dict(
    segments=np.ones((B, 3), np.int32),
    key_segments=key_segments.astype(np.int32),
    query_offset=6,
    causal=True,
    window=(4, 0),
  )
  slopes = biases.Alibi(biases.alibi_slopes(H))
  dense = slopes.dense(6 + jnp.arange(3), jnp.arange(L))
  out = flash_attention(
    *(jnp.asarray(a, jnp.float32) for a in (query, key, value)),
    bias=slopes,
    **options,
  )
  expected = slow(query, key, value, bias=np.asarray(dense), **options)
  np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, (2, 1)])
def test_equals_jax(causal, window):
  query, key, value = (jnp.asarray(a, jnp.float32) for a in arrays(key_heads=G))
  bias = biases.Alibi(biases.alibi_slopes(H))
  out = flash_attention(
    query, key, value, bias=bias, causal=causal, window=window
  )
  expected = jax.nn.dot_product_attention(
    query,
    key,
    value,
    bias=bias.dense(jnp.arange(L), jnp.arange(L)),
    is_causal=causal,
    local_window_size=window,
  )
  np.testing.assert_allclose(out, expected, atol=2e-6)


def test_queries_that_see_nothing_give_zero_and_no_gradient():
  query, key, value = (jnp.asarray(a, jnp.float32) for a in arrays())
  empty = SEGMENTS == 0

  def total(query, key, value):
    out = flash_attention(query, key, value, segments=SEGMENTS)
    return jnp.sum(jnp.sin(out)), out

  gradients, out = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(
    query, key, value
  )
  assert np.abs(np.asarray(out)[empty]).max() == 0.0
  assert np.abs(np.asarray(out)[~empty]).min() > 0.0
  for gradient in gradients:
    gradient = np.asarray(gradient)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[empty]).max() == 0.0
    assert np.abs(gradient[~empty]).max() > 1e-3


def test_gradients_are_those_of_finite_differences():
  query, key, value = arrays(key_heads=G)
  table = np.random.default_rng(4).standard_normal((8, H))

  @jax.jit
  def run(query, key, value, table):
    return flash_attention(
      query,
      key,
      value,
      bias=biases.add(
        biases.Buckets(table, max_distance=16),
        biases.Alibi(biases.alibi_slopes(H)),
      ),
      segments=SEGMENTS,
      window=(3, 3),
      soft_cap=3.0,
    )

  with jax.enable_x64(True):
    inputs = tuple(map(jnp.asarray, (query, key, value, table)))
    check_grads(run, inputs, order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_bfloat16_keeps_softmax_in_float32():
  query, key, value = (jnp.asarray(a, jnp.bfloat16) for a in arrays())
  out, weights = flash_attention(
    query, key, value, segments=SEGMENTS, with_probabilities=True
  )
  assert out.dtype == jnp.bfloat16 and weights.dtype == jnp.float32
  sums = np.asarray(weights.sum(-1))
  seen = np.broadcast_to((SEGMENTS > 0)[:, None], sums.shape)
  np.testing.assert_allclose(sums, seen, atol=1e-6)
  exact = slow(
    *(np.asarray(a, np.float64) for a in (query, key, value)),
    segments=SEGMENTS,
  )
  np.testing.assert_allclose(np.asarray(out, np.float64), exact, atol=2e-2)


def test_dropout_keeps_the_expectation_and_follows_its_key():
  query, key, value = (jnp.asarray(a, jnp.float32) for a in arrays())
  plain = flash_attention(query, key, value)
  run = jax.jit(
    lambda key_: flash_attention(
      query, key, value, dropout_rate=0.25, dropout_key=key_
    )
  )
  first = run(jax.random.key(1))
  np.testing.assert_array_equal(first, run(jax.random.key(1)))
  assert not np.allclose(first, run(jax.random.key(2)), atol=1e-2)
  draws = jax.lax.map(run, jax.random.split(jax.random.key(0), 4000))
  spread = np.asarray(draws).std(0) / np.sqrt(4000)
  off = np.abs(np.asarray(draws).mean(0) - np.asarray(plain))
  assert (off < 5 * spread + 1e-6).all()


def test_dropout_zeroes_the_told_share_of_probabilities():
  eye = jnp.eye(L)[None, :, None].repeat(B, 0).repeat(H, 2)
  query = jnp.zeros((B, L, H, L))
  out = flash_attention(
    query, eye, eye, dropout_rate=0.25, dropout_key=jax.random.key(0)
  )
  kept = np.asarray(out) > 0
  assert abs(kept.mean() - 0.75) < 0.04
  np.testing.assert_allclose(np.asarray(out)[kept], 1 / L / 0.75, rtol=1e-5)


def test_probabilities_are_given_before_dropout():
  query, key, value = (jnp.asarray(a, jnp.float32) for a in arrays())
  _, weights = flash_attention(
    query,
    key,
    value,
    dropout_rate=0.5,
    dropout_key=jax.random.key(0),
    with_probabilities=True,
  )
  assert weights.shape == (B, H, L, L)
  np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-6)


def test_the_path_is_chosen_and_explained():
  for platform in ("cpu", "gpu", "tpu"):
    name, why = choose(platform)
    assert name in implementations() and platform in why
  query, key, value = (jnp.asarray(a, jnp.float32) for a in arrays())
  np.testing.assert_array_equal(
    flash_attention(query, key, value, implementation=choose()[0]),
    flash_attention(query, key, value),
  )


def test_mistakes_raise():
  query, key, value = (jnp.asarray(a, jnp.float32) for a in arrays())
  with pytest.raises(ValueError, match="heads must divide"):
    flash_attention(query, key[:, :, :3], value[:, :, :3])
  with pytest.raises(ValueError, match="key and value must have one shape"):
    flash_attention(query, key, value[:, :4])
  with pytest.raises(ValueError, match="dropout_rate 0.1 needs a dropout_key"):
    flash_attention(query, key, value, dropout_rate=0.1)
  with pytest.raises(ValueError, match="dropout_rate 1.0"):
    flash_attention(
      query, key, value, dropout_rate=1.0, dropout_key=jax.random.key(0)
    )
  with pytest.raises(ValueError, match="key_segments need segments"):
    flash_attention(query, key, value, key_segments=SEGMENTS)
  with pytest.raises(NotImplementedError, match="'flash' is not one of"):
    flash_attention(query, key, value, implementation="flash")


def test_padding_far_from_the_scores_of_real_tokens_is_harmless():
  """Huge values at padded keys neither leak nor overflow."""
  query, key, value = (np.asarray(a, np.float32) for a in arrays())
  plain = flash_attention(query, key, value, segments=SEGMENTS)
  key[SEGMENTS == 0] = 1e18
  value[SEGMENTS == 0] = 1e30
  moved = flash_attention(query, key, value, segments=SEGMENTS)
  np.testing.assert_array_equal(
    tiny.real(moved, SEGMENTS), tiny.real(plain, SEGMENTS)
  )
