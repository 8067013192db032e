"""Facts of the papers that hold for whole models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import paths
from jaxlm.models import assembly
from tests import tiny
from tests.contracts import products

# Hugging Face's counts (systems' sheets), with the heads that we train.
PARAMETERS = {
  ("bert", "base"): 109_482_240 + 2 * 768 + 2 + 768 * 771 + 30_522,
  ("bert", "large"): 335_141_888 + 2 * 1024 + 2 + 1024 * 1027 + 30_522,
  ("bert", "google_tiny"): 4_385_920 + 2 * 128 + 2 + 128 * 131 + 30_522,
  ("bert", "mini"): 11_170_560 + 2 * 256 + 2 + 256 * 259 + 30_522,
  ("bert", "small"): 28_763_648 + 2 * 512 + 2 + 512 * 515 + 30_522,
  ("bert", "medium"): 41_373_184 + 2 * 512 + 2 + 512 * 515 + 30_522,
  # Published with a pooler, which masked LM does not train.
  ("roberta", "base"): 124_645_632 + 2 * 768 + 50_265,
  ("roberta", "large"): 355_359_744 + 2 * 1024 + 50_265,
  ("gpt2", "small"): 124_439_808,
  ("mosaicbert", "base"): 137_400_384,
  ("mosaicbert", "large"): 435_221_312,
  ("modernbert", "base"): 149_655_232,
  ("modernbert", "large"): 394_781_696 + 1024 * 1025 + 50_368,
}
VOCABULARY = {
  "bert": 30_522,
  "roberta": 50_265,
  "gpt2": 50_257,
  "mosaicbert": 30_522,
  "modernbert": 50_368,
}


@pytest.mark.parametrize(
  ("name", "variant"), PARAMETERS, ids=map("-".join, PARAMETERS)
)
def test_published_parameter_counts(name, variant):
  spec = tiny.config_model(name, variant)
  model = assembly.build(spec, vocab_size=VOCABULARY[name])
  shapes = tiny.shapes(model, {"inputs": np.zeros((1, 8), np.int32)})
  assert paths.count(shapes) == PARAMETERS[name, variant]


def layers_of(depth, **mixer):
  return tiny.build(
    tiny.model_spec(
      layers=dict(layer=tiny.layer(mixer=mixer)),
      depth=depth,
      positions=dict(kind="rotary"),
    )
  )


@pytest.mark.parametrize(("depth", "reach"), [(1, (16, 24)), (2, (12, 28))])
def test_local_attention_reaches_half_its_window(depth, reach):
  """ModernBERT, local_attention=8: a change at 20 moves 16..24, then 12..28."""
  model, params = layers_of(depth, window=8)
  ids = np.random.default_rng(0).integers(1, tiny.VOCAB, (1, 48))
  run = lambda ids: np.asarray(model.apply(params, {"inputs": ids})["hidden"])
  before = run(ids)
  ids[0, 20] = ids[0, 20] % (tiny.VOCAB - 1) + 1
  moved = np.abs(run(ids) - before).max((0, 2)) > 1e-6
  low, high = reach
  np.testing.assert_array_equal(np.flatnonzero(moved), range(low, high + 1))


def test_a_causal_window_looks_back_alone():
  """window=4 sees a token and the three before it."""
  model, params = layers_of(1, window=4, causal=True)
  ids = np.random.default_rng(0).integers(1, tiny.VOCAB, (1, 48))
  run = lambda ids: np.asarray(model.apply(params, {"inputs": ids})["hidden"])
  before = run(ids)
  ids[0, 20] = ids[0, 20] % (tiny.VOCAB - 1) + 1
  moved = np.abs(run(ids) - before).max((0, 2)) > 1e-6
  np.testing.assert_array_equal(np.flatnonzero(moved), range(20, 24))


@pytest.mark.parametrize("kind", ["none", "learned"])
def test_order_is_seen_through_positions_alone(kind):
  """Tokens permuted with their positions permute the outputs; and without."""
  model, params = tiny.build(tiny.model_spec(positions=dict(kind=kind)))
  rng = np.random.default_rng(0)
  ids = rng.integers(1, tiny.VOCAB, (1, tiny.LENGTH))
  places = np.arange(tiny.LENGTH, dtype=np.int32)[None]
  order = rng.permutation(tiny.LENGTH)
  run = lambda ids, places: np.asarray(
    model.apply(params, {"inputs": ids, "positions": places})["hidden"]
  )
  before = run(ids, places)
  after = run(ids[:, order], places[:, order])
  np.testing.assert_allclose(after, before[:, order], atol=1e-5)
  fixed = run(ids[:, order], places)
  same = np.allclose(fixed, before[:, order], atol=1e-3)
  assert same == (kind == "none")


def test_gpt2_is_causal_by_gradient():
  """d logits_t / d x_u is 0 for every u > t, and not for u <= t."""
  spec = tiny.config_model("gpt2") | {"stack": dict(kind="sequential")}
  model, params = tiny.build(spec)
  x = jnp.asarray(
    np.random.default_rng(0).standard_normal((1, tiny.LENGTH, tiny.WIDTH))
  )
  ctx = tiny.context(np.ones((1, tiny.LENGTH), np.int32))

  def logits(module, x):
    return module.embeddings.attend(module.final_norm(module.stack(x, ctx)))

  @jax.jit
  @jax.grad
  def gradient_at(x, place):
    out = model.apply(params, x, method=logits)
    return jnp.sum(jnp.sin(jnp.take(out, place, axis=1)))

  for place in (0, 7):
    gradient = np.abs(gradient_at(x, place))[0].max(-1)
    assert gradient[place + 1 :].max() == 0.0
    assert gradient[: place + 1].min() > 1e-5


def test_rotary_positions_of_the_model_reach_every_mixer():
  """Given for the model or for each mixer, they are the same model."""
  spec = tiny.model_spec(positions=dict(kind="rotary", theta=100.0))
  model, params = tiny.build(spec)
  inside = dict(positions=dict(kind="rotary", theta=100.0))
  other, _ = tiny.build(
    tiny.model_spec(layers=dict(layer=tiny.layer(mixer=inside)))
  )
  plain, _ = tiny.build(tiny.model_spec())
  run = lambda m: np.asarray(m.apply(params, tiny.batch())["hidden"])
  np.testing.assert_array_equal(run(model), run(other))
  assert not np.allclose(run(model), run(plain), atol=1e-2)


FEW = ("bert", "convbert", "electra", "hyena", "t5", "three_ml")


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=() if name in FEW else pytest.mark.slow)
    for name in tiny.CONFIGS
  ],
)
def test_bfloat16_models_return_float32_logits(name):
  spec = tiny.config_model(name)
  model = assembly.build(spec, vocab_size=tiny.VOCAB, dtype=jnp.bfloat16)
  batch = products.batch()
  shapes = tiny.shapes(model, batch)
  kept = {leaf.dtype for leaf in jax.tree.leaves(shapes)}
  assert kept - {jnp.dtype("int32")} == {jnp.dtype("float32")}
  out = jax.eval_shape(
    lambda: model.apply(tiny.fill(shapes), batch, train=False)
  )
  assert out.pop("hidden").dtype == jnp.bfloat16
  parts = [spec, *assembly.towers(spec).values()]
  heads = {h for part in parts for h in part.get("heads", ())} & set(out)
  assert heads
  assert {out[head].dtype for head in heads} == {jnp.dtype("float32")}
