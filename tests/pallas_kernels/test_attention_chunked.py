"""Chunked attention: right in small blocks, and linear in memory."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.flash_attention import bias as biases
from pallas_kernels.flash_attention import (
  chunked,
  flash_attention,
  operands,
  reference,
)
from tests.pallas_kernels.attention_contract import AttentionContract


class TestContract(AttentionContract):
  """In blocks of 32: several, and a partial last one, of each side."""

  def attend(self, query, key, value, **options):
    static, arrays = operands.lower(query, key, value, **options)
    static = dataclasses.replace(static, blocks=chunked.Blocks(32))
    return chunked.attend(static, arrays)


def draw(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def test_by_name_with_its_own_blocks():
  query, key, value = (draw(n, 1, 300, 2, 8) for n in range(3))
  bias = biases.Alibi(biases.alibi_slopes(2))
  options = dict(causal=True, bias=bias, dropout_rate=0.1)
  out, expected = (
    flash_attention(
      query,
      key,
      value,
      implementation=name,
      dropout_key=jax.random.key(7),
      **options,
    )
    for name in ("chunked", "reference")
  )
  np.testing.assert_allclose(out, expected, atol=2e-6)


def test_probabilities_and_decoding_are_the_references():
  query, key, value = (draw(n, 1, 12, 2, 8) for n in range(3))
  run = lambda name, place: flash_attention(
    query[:, :1],
    key,
    value,
    causal=True,
    query_offset=place,
    with_probabilities=True,
    implementation=name,
  )
  found, expected = (
    jax.jit(run, static_argnums=0)(name, jnp.int32(4))
    for name in ("chunked", "reference")
  )
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  assert np.count_nonzero(found[1]) == 2 * 5


def everything(length, heads):
  """Arguments with all that does not bring an array of [length, length]."""
  places = np.arange(length)
  segments = (1 + places // 700)[None].astype(np.int32)
  first = (places % 700 == 0)[None]
  buckets = biases.disentangled_buckets(
    length, length, span=8, buckets=8, max_distance=64
  )
  floating = dict(
    slopes=biases.alibi_slopes(heads),
    table=draw(0, 32, heads),
    theta=draw(1, 2, heads),
    positions=draw(2, 1, length, heads, 8),
    c2p=draw(3, 1, length, heads, 16),
    p2c=draw(4, 1, length, heads, 16),
    **{n: draw(5, 1, length, heads, 8) for n in ("query", "key", "value")},
  )

  def attend(arrays, implementation):
    inner = biases.Sum(
      (
        biases.Alibi(arrays["slopes"]),
        biases.Buckets(arrays["table"]),
        biases.Untied(arrays["positions"], arrays["positions"]),
      )
    )
    bias = biases.Sum(
      (
        biases.Reset(inner, arrays["theta"], first, first),
        biases.Disentangled(arrays["c2p"], arrays["p2c"], buckets, buckets),
      )
    )
    return flash_attention(
      *(arrays[name] for name in ("query", "key", "value")),
      bias=bias,
      segments=segments,
      window=(600, 500),
      soft_cap=5.0,
      dropout_rate=0.1,
      dropout_key=jax.random.key(6),
      implementation=implementation,
    )

  return attend, floating


def largest(compiled) -> int:
  """Elements of the largest array in a compiled program."""
  shapes = re.findall(r"\w+\[([\d,]+)\]", compiled.as_text())
  return max(int(np.prod([int(n) for n in s.split(",")])) for s in shapes)


def test_nothing_of_queries_by_keys():
  """Nor in the gradient; the reference shows that the check can fail."""
  length, heads = 2048, 1
  attend, floating = everything(length, heads)
  compiled = {}
  for name in ("chunked", "reference"):
    loss = lambda arrays, name=name: jnp.sum(jnp.sin(attend(arrays, name)))
    compiled[name] = jax.jit(jax.grad(loss)).lower(floating).compile()
  assert largest(compiled["reference"]) >= length**2
  assert largest(compiled["chunked"]) < length**2 // 1.9
  temporary = {
    n: c.memory_analysis().temp_size_in_bytes for n, c in compiled.items()
  }
  assert temporary["chunked"] < 0.35 * temporary["reference"], temporary


@pytest.mark.slow
def test_memory_grows_with_length_alone():
  sizes = []
  for length in (2048, 4096):
    attend, floating = everything(length, 1)
    loss = lambda arrays, attend=attend: jnp.sum(attend(arrays, "chunked"))
    compiled = jax.jit(jax.grad(loss)).lower(floating).compile()
    sizes.append(compiled.memory_analysis().temp_size_in_bytes)
  assert sizes[1] < 2.1 * sizes[0]


@pytest.mark.slow
def test_all_together_equals_the_reference():
  """With blocks of the default size, more than one of them."""
  attend, floating = everything(300, 2)
  run = lambda name: jax.jit(
    jax.value_and_grad(lambda x: jnp.sum(jnp.sin(attend(x, name))))
  )(floating)
  (out, gradients), (expected, wanted) = run("chunked"), run("reference")
  np.testing.assert_allclose(out, expected, rtol=1e-5)
  for name, value in wanted.items():
    error = np.linalg.norm(gradients[name] - value) / np.linalg.norm(value)
    assert error < 3e-6, (name, error)


def test_a_bias_that_kernels_cannot_say_is_refused():
  query = draw(0, 1, 6, 2, 8)
  alibi = biases.Alibi(biases.alibi_slopes(2))
  first = np.eye(1, 6, dtype=bool)
  reset = biases.Reset(None, jnp.ones((2, 2)), first, first)
  arguments = dict(bias=biases.add(reset, alibi), implementation="chunked")
  with pytest.raises(NotImplementedError, match="Alibi outside of a Reset"):
    flash_attention(query, query, query, **arguments)
  arguments["implementation"] = "reference"
  assert np.isfinite(flash_attention(query, query, query, **arguments)).all()


def test_float64_stays_float64():
  with jax.enable_x64(True):
    arrays = [jnp.asarray(draw(n, 1, 40, 2, 8), jnp.float64) for n in range(3)]
    out = flash_attention(*arrays, implementation="chunked")
    plain = dict.fromkeys(
      ("bias", "query_segments", "key_segments", "window", "soft_cap")
    )
    expected = reference.attention(
      *arrays,
      **plain,
      query_offset=0,
      causal=False,
      scale=8**-0.5,
      dropout_rate=0.0,
      dropout_key=None,
    )
    assert out.dtype == jnp.float64
    np.testing.assert_allclose(out, expected, atol=1e-13)
