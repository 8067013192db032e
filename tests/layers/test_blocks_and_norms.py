"""Facts of blocks, norms and feed-forwards."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxlm import paths
from jaxlm.errors import UserError
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.mixers import mixers
from jaxlm.layers.norms import norms
from tests import tiny
from tests.contracts.cases import Case, blocks

X = jnp.asarray(
  np.random.default_rng(0).standard_normal((tiny.BATCH, tiny.LENGTH, 32)),
  jnp.float32,
)


def layer_norm(x, epsilon=1e-12):
  x = np.asarray(x, np.float64)
  centered = x - x.mean(-1, keepdims=True)
  return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + epsilon)


def silenced(module):
  """Parameters with zero output maps and plain norms."""
  params = tiny.fill(tiny.shapes(module, X, tiny.context()))
  flat = paths.flatten(params)
  for path, leaf in flat.items():
    if "norm" in path:
      flat[path] = jnp.full(leaf.shape, float(path.endswith("scale")))
    elif "/output/" in path:
      flat[path] = jnp.zeros(leaf.shape)
  return paths.unflatten(flat)


def test_a_silent_post_norm_block_is_two_norms():
  module = Case(blocks, "post_norm").module()
  out = module.apply(silenced(module), X, tiny.context())
  np.testing.assert_allclose(out, layer_norm(layer_norm(X)), atol=1e-5)


def test_a_silent_pre_norm_block_is_the_identity():
  module = Case(blocks, "pre_norm").module()
  out = module.apply(silenced(module), X, tiny.context())
  np.testing.assert_array_equal(out, X)


def test_modernbert_skips_the_first_norm():
  plain = tiny.shapes(Case(blocks, "pre_norm").module(), X, tiny.context())
  skipped = Case(blocks, "pre_norm", (("skip_mixer_norm", True),)).module()
  names = lambda boxed: {p for p in tiny.names(boxed) if "mixer_norm" in p}
  assert names(plain) and not names(tiny.shapes(skipped, X, tiny.context()))


def test_feed_forward_dropout_has_a_rate_of_its_own():
  """MosaicBERT drops after attention but not after the feed-forward."""
  rates = (("dropout", 0.5), ("feedforward_dropout", 0.0))
  module = Case(blocks, "pre_norm", rates).module()
  part = module.part.bind({})
  assert (part.drop.rate, part.feedforward_drop.rate) == (0.5, 0.0)
  alike = Case(blocks, "post_norm", rates[:1]).module().part.bind({})
  assert (alike.drop.rate, alike.feedforward_drop.rate) == (0.5, 0.5)


def test_layer_norm_survives_a_large_mean():
  """E[x^2] - E[x]^2 would lose all digits here."""
  x = X + 3000.0
  part = norms.build({"kind": "layer_norm"})
  out = part.apply(tiny.fill(tiny.shapes(part, x), scale=0.0), x)
  np.testing.assert_allclose(out, layer_norm(x), atol=2e-3)


def test_rms_norm_is_its_formula():
  part = norms.build({"kind": "rms_norm", "epsilon": 0.1})
  params = tiny.fill(tiny.shapes(part, X))
  scale = np.asarray(params["params"]["norm"]["scale"])
  mean = (np.asarray(X) ** 2).mean(-1, keepdims=True)
  expected = scale * np.asarray(X) / np.sqrt(mean + 0.1)
  np.testing.assert_allclose(part.apply(params, X), expected, atol=1e-5)


def test_a_gated_feed_forward_is_geglu():
  part = feedforwards.build({"kind": "gated", "hidden": 48}, width=32)
  params = tiny.fill(tiny.shapes(part, X, tiny.context()))
  kernel = {k: np.asarray(v["kernel"]) for k, v in params["params"].items()}
  x = np.asarray(X, np.float64)
  gate = x @ kernel["gate"]
  gate = gate * 0.5 * (1 + special.erf(gate / np.sqrt(2)))
  expected = (gate * (x @ kernel["up"])) @ kernel["output"]
  out = part.apply(params, X, tiny.context())
  np.testing.assert_allclose(out, expected, atol=1e-4)
  assert all(set(v) == {"kernel"} for v in params["params"].values())


def test_an_mlp_is_its_formula():
  part = feedforwards.build(
    {"kind": "mlp", "hidden": 48, "activation": "relu"}, width=32
  )
  params = tiny.fill(tiny.shapes(part, X, tiny.context()))
  p = {
    k: (v["kernel"], v["bias"]) for k, v in tiny.host(params["params"]).items()
  }
  x = np.maximum(np.asarray(X) @ p["input"][0] + p["input"][1], 0)
  expected = x @ p["output"][0] + p["output"][1]
  out = part.apply(params, X, tiny.context())
  np.testing.assert_allclose(out, expected, atol=1e-4)


def test_fewer_key_heads_make_smaller_maps():
  part = mixers.build(
    {"kind": "attention", "heads": 4, "key_heads": 2}, width=32
  )
  shapes = tiny.fill(tiny.shapes(part, X, tiny.context()))["params"]
  assert shapes["query"]["kernel"].shape == (32, 32)
  assert shapes["key"]["kernel"].shape == (32, 16)
  assert shapes["value"]["kernel"].shape == (32, 16)


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    (dict(heads=5), "heads=5 do not divide width=32"),
    (dict(heads=4, key_heads=3), "key_heads=3 do not divide heads=4"),
  ],
)
def test_heads_that_do_not_fit_are_told(fields, words):
  part = mixers.build({"kind": "attention", **fields}, width=32)
  with pytest.raises(UserError, match=words):
    tiny.shapes(part, X, tiny.context())


def test_attention_captures_what_is_asked_for():
  part = mixers.build({"kind": "attention", "heads": 4}, width=32)
  ctx = tiny.context(capture=frozenset({"attention_probabilities"}))
  params = tiny.fill(tiny.shapes(part, X, tiny.context()))
  out, kept = part.apply(params, X, ctx, mutable=["intermediates"])
  weights = kept["intermediates"]["attention_probabilities"][0]
  assert weights.shape == (2, 4, 16, 16)
  np.testing.assert_allclose(tiny.real(weights.sum(-1).swapaxes(1, 2)), 1, 1e-5)
  np.testing.assert_allclose(
    out, part.apply(params, X, tiny.context()), atol=1e-6
  )
