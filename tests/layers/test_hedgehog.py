"""Linear attention with learned features: forms, features, decoding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.layers.mixers import _feature_maps, mixers
from jaxlm.models import assembly
from tests import tiny
from tests.tiny import switched

HEADS, WIDTH = tiny.HEADS, tiny.WIDTH


def mixer(dtype=jnp.float32, **fields):
  spec = dict(kind="hedgehog", heads=HEADS, width=WIDTH, **fields)
  return mixers.build(spec, dtype=dtype)


def apply(module, variables, x, ctx):
  """The output, as one compiled program."""
  return jax.jit(module.apply)(variables, jnp.asarray(x), ctx)


def inputs(seed=1):
  rng = np.random.default_rng(seed)
  return rng.standard_normal((tiny.BATCH, tiny.LENGTH, WIDTH))


def by_hand(params, x, segments, causal, features):
  """Every weight written out, in float64."""
  dense = lambda name, x: x @ params[name]["kernel"] + params[name]["bias"]
  q, k, v = (
    dense(n, x).reshape(*x.shape[:2], HEADS, -1)
    for n in ("query", "key", "value")
  )
  mapped = lambda name, x: features(
    np.einsum("blhi,hio->blho", x, params[name]["kernel"])
    + params[name]["bias"]
  )
  q, k = mapped("query_map", q), mapped("key_map", k)
  out = np.zeros_like(v)
  for b, i, h in np.ndindex(v.shape[:3]):
    seen = (segments[b] == segments[b, i]) & (segments[b] > 0)
    if causal:
      seen &= np.arange(len(seen)) <= i
    weights = np.where(seen, k[b, :, h] @ q[b, i, h], 0.0)
    if weights.sum():
      out[b, i, h] = weights @ v[b, :, h] / weights.sum()
  return dense("output", out.reshape(*x.shape[:2], -1))


def exp_features(z):
  return np.concatenate([np.exp(z), np.exp(-z)], -1)


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_quadratic_form(causal):
  """Packed rows with padding, in float64."""
  with switched("jax_enable_x64", True):
    module = mixer(jnp.float64, causal=causal, param_dtype=jnp.float64)
    x = inputs()
    variables = tiny.fill(tiny.shapes(module, jnp.asarray(x), tiny.context()))
    expected = by_hand(
      tiny.host(variables["params"]), x, tiny.SEGMENTS, causal, exp_features
    )
    for name in ("reference", "chunked"):
      module = mixer(
        jnp.float64,
        causal=causal,
        param_dtype=jnp.float64,
        implementation=name,
      )
      out = apply(module, variables, x, tiny.context())
      np.testing.assert_allclose(
        tiny.real(out), tiny.real(expected), atol=1e-12, rtol=1e-10
      )


def softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


FORMULAS = {
  "exp": exp_features,
  "softmax": lambda z: np.concatenate([softmax(z), softmax(-z)], -1),
  "joint": lambda z: softmax(np.concatenate([2 * z, -2 * z], -1)),
  "elu": lambda z: np.where(z > 0, 1 + z, np.exp(z)),
  "relu": lambda z: np.maximum(z, 0),
}


@pytest.mark.parametrize("name", _feature_maps.MAPS)
def test_features_are_their_formulas(name):
  z = inputs(2)
  made = _feature_maps.MAPS[name](jnp.asarray(z, jnp.float32), jnp.float32)
  np.testing.assert_allclose(made, FORMULAS[name](z), rtol=1e-5, atol=1e-6)


def test_maps_start_as_identities():
  x = jnp.ones((1, 1, HEADS, 8))
  held = _feature_maps.FeatureMap().init(jax.random.key(0), x)["params"]
  kernel, bias = held["kernel"].unbox(), held["bias"].unbox()
  np.testing.assert_array_equal(kernel, np.tile(np.eye(8), (HEADS, 1, 1)))
  np.testing.assert_array_equal(bias, np.zeros((HEADS, 8)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_large_queries_and_keys_stay_finite(dtype):
  """exp of what queries and keys of 1,000 would overflow in any dtype."""
  module = mixer(dtype)
  x = jnp.asarray(inputs(), dtype)
  variables = tiny.fill(tiny.shapes(module, x, tiny.context()), scale=30.0)

  def loss(x):
    return jnp.sum(module.apply(variables, x, tiny.context()) * 1e-4)

  value, gradient = jax.jit(jax.value_and_grad(loss))(x)
  assert np.isfinite(value) and np.isfinite(gradient).all()


SEGMENTS = np.array([[0] * 3 + [1] * 9, [1] * 5 + [2] * 7, [1] * 12], np.int32)


@pytest.mark.parametrize("positions", ["none", "rotary"])
def test_decoding_with_a_state_equals_the_full_forward(positions):
  """In chunks of 3, with left padding and packed documents."""
  spec = tiny.model_spec(
    kind="decoder",
    positions=dict(kind=positions),
    layers=dict(layer=tiny.layer(mixer=dict(kind="hedgehog", causal=True))),
    depth=2,
    stack=dict(kind="scan"),
    heads=dict(causal_lm=dict(kind="causal_lm")),
  )
  model, params = tiny.build(spec)
  batch = tiny.batch(SEGMENTS)
  batch = {k: batch[k] for k in ("inputs", "segments", "positions")}
  full = jax.jit(model.apply)(params, batch)["causal_lm"]
  run = jax.jit(
    functools.partial(model.apply, cache_length=12, mutable="cache")
  )
  piece = lambda at: {k: v[:, at : at + 3] for k, v in batch.items()}
  shapes = tiny.shapes(model, piece(0), cache_length=12)
  cache = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes["cache"])
  chunks = []
  for at in range(0, 12, 3):
    out, updated = run({**params, "cache": cache}, piece(at))
    cache = updated["cache"]
    chunks.append(out["causal_lm"])
  np.testing.assert_allclose(
    tiny.real(np.concatenate(chunks, 1), SEGMENTS),
    tiny.real(full, SEGMENTS),
    atol=1e-4,
  )


def test_what_does_not_fit_is_told():
  run = lambda module: tiny.shapes(
    module, jnp.asarray(inputs()), tiny.context()
  )
  with pytest.raises(UserError, match="Did you mean 'softmax'"):
    run(mixer(feature_map="softmx"))
  with pytest.raises(UserError, match="Did you mean 'chunked'"):
    run(mixer(implementation="chunk"))
  with pytest.raises(UserError, match="heads=4 do not divide width=30"):
    run(mixers.build(dict(kind="hedgehog", heads=4, width=30)))
  with pytest.raises(UserError, match="adds to attention scores"):
    assembly.build(
      tiny.model_spec(
        positions=dict(kind="alibi"),
        layers=dict(layer=tiny.layer(mixer=dict(kind="hedgehog"))),
      )
    )
