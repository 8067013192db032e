"""From softmax attention to Hedgehog: weights kept, maps distilled."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm import paths, recipe
from jaxlm.errors import UserError
from jaxlm.interop import adapt, layout
from jaxlm.layers.mixers import _feature_maps, _imitation
from jaxlm.models import assembly, replacement
from jaxlm.objectives import objectives
from tests import tiny

REPLACE = dict(replace=dict(mixer=dict(kind="hedgehog")))
OBJECTIVE = objectives.build({"kind": "attention_distillation"})


def softmax_spec(stack="scan", **mixer):
  return tiny.model_spec(
    layers=dict(layer=tiny.layer(mixer=dict(dropout=0.1, **mixer))),
    depth=2,
    stack=dict(kind=stack),
    heads=dict(masked_lm=dict(kind="masked_lm")),
  )


def converted(spec, seed=0):
  """A softmax model, its parameters, and those of its conversion."""
  model, variables = tiny.build(spec)
  target = replacement.apply({**spec, **REPLACE})
  params, fresh = adapt(tiny.host(variables["params"]), spec, target)
  linear, shapes = tiny.build(target)
  drawn = paths.flatten(shapes["params"])
  held = paths.flatten(params)
  merged = {
    path: held[path] if path in held else identity(path, leaf)
    for path, leaf in drawn.items()
  }
  return model, variables, linear, {"params": paths.unflatten(merged)}, fresh


def identity(path, leaf):
  if path.endswith("kernel"):
    return jnp.broadcast_to(jnp.eye(leaf.shape[-1]), leaf.shape)
  return jnp.zeros(leaf.shape)


@pytest.mark.parametrize("stack", ["scan", "sequential"])
def test_conversion_keeps_all_weights_and_draws_the_maps(stack):
  spec = softmax_spec(stack)
  _, variables = tiny.build(spec)
  target = replacement.apply({**spec, **REPLACE})
  assert target["layers"]["layer"]["mixer"] == dict(kind="hedgehog", heads=4)
  made, fresh = adapt(tiny.host(variables["params"]), spec, target)
  made, held = layout.flat(made, target), layout.flat(variables["params"], spec)
  assert made.keys() == held.keys()
  for path, leaf in held.items():
    np.testing.assert_array_equal(made[path], leaf)
  assert set(fresh) == {
    f"stack/layers_{i}/mixer/{role}_map/{leaf}"
    for i in range(2)
    for role in ("query", "key")
    for leaf in ("kernel", "bias")
  }


def test_a_second_conversion_keeps_the_maps():
  spec = replacement.apply({**softmax_spec(), **REPLACE})
  _, variables = tiny.build(spec)
  again = recipe.model_spec({"model": REPLACE}, {"vocab_size": 8}, spec)
  made, fresh = adapt(tiny.host(variables["params"]), spec, again)
  assert fresh == () and again["layers"] == spec["layers"]
  assert paths.flatten(made).keys() == paths.flatten(variables["params"]).keys()


@pytest.mark.parametrize("causal", [False, True])
def test_the_loss_is_the_cross_entropy_of_every_layer(causal):
  """By hand in numpy, over packed rows; the teacher's stream is kept."""
  spec = softmax_spec("sequential", causal=causal)
  model, variables, linear, params, _ = converted(spec)
  batch = tiny.batch()
  wanted = frozenset({"attention_probabilities", "hidden"})
  outputs, kept = model.apply(
    variables, batch, capture=wanted, mutable=["intermediates"]
  )
  hidden, taught = linear.apply(
    params,
    batch,
    capture=frozenset({"attention_cross_entropy"}),
    mutable=["intermediates"],
  )
  np.testing.assert_allclose(
    tiny.real(hidden["hidden"]), tiny.real(outputs["hidden"]), atol=1e-5
  )
  for i in range(2):
    name = f"layers_{i}"
    p = kept["intermediates"]["stack"][name]["mixer"]
    p = np.asarray(p["attention_probabilities"][0], np.float64)
    x = kept["intermediates"]["stack"]["hidden"]
    own = taught["intermediates"]["stack"][name]["mixer"]
    layer = variables["params"]["stack"][name]
    before = (
      variables["params"]["embeddings"]["table"][batch["inputs"]]
      if i == 0
      else x[0]
    )
    expected = expected_loss(p, before, tiny.host(layer))
    np.testing.assert_allclose(
      tiny.real(own["attention_cross_entropy"][0]),
      tiny.real(expected),
      rtol=2e-4,
    )


def expected_loss(p, x, layer):
  """-sum p log a of the identity maps, [batch, length]."""
  x = np.asarray(x, np.float64)
  mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  x = (x - mean) / np.sqrt(var + 1e-6)
  norm = paths.flatten(layer["mixer_norm"])
  scale, bias = (
    next(leaf for path, leaf in norm.items() if path.endswith(end))
    for end in ("scale", "bias")
  )
  x = x * scale + bias
  features = []
  for name in ("query", "key"):
    w = layer["mixer"][name]
    z = (x @ w["kernel"] + w["bias"]).reshape(*x.shape[:2], tiny.HEADS, -1)
    features.append(np.concatenate([np.exp(z), np.exp(-z)], -1))
  a = np.einsum("bihf,bjhf->bhij", *features) * (p > 0)
  a = a / np.maximum(a.sum(-1, keepdims=True), 1e-300)
  logs = np.where(p > 0, np.log(np.where(p > 0, a, 1.0)), 0.0)
  return -(p * logs).sum(-1).mean(1)


def test_distillation_trains_the_maps_alone_and_its_loss_falls():
  *_, linear, params, _ = converted(softmax_spec())
  batch = tiny.batch()

  def loss(params):
    outcome = OBJECTIVE(linear, params, batch, None, train=True)
    (total,) = outcome.sums.values()
    kl, tokens = outcome.metrics["kl"]
    return total / tokens, kl / tokens

  run = jax.jit(jax.value_and_grad(loss, has_aux=True))
  (first, kl), gradients = run(params)
  assert 0 < kl < first
  for path, leaf in paths.flatten(gradients).items():
    assert (np.abs(leaf).max() > 0) == ("_map/" in path), path
  tx = optax.adam(2e-2)
  state = tx.init(params)

  @jax.jit
  def step(params, state):
    gradients = jax.grad(lambda p: loss(p)[0])(params)
    updates, state = tx.update(gradients, state)
    return optax.apply_updates(params, updates), state

  for _ in range(25):
    params, state = step(params, state)
  (last, after), _ = run(params)
  assert after < 0.5 * kl
  np.testing.assert_allclose(last - after, first - kl, rtol=1e-4)  # p's entropy


def test_scanned_and_unrolled_layers_have_the_same_loss():
  target = replacement.apply({**softmax_spec(), **REPLACE})
  model, variables = tiny.build(target)
  unrolled = dict(target, stack=dict(kind="sequential"))
  flat = layout.tree(layout.flat(variables["params"], target), unrolled)
  losses = [
    jax.jit(lambda p, m=m: OBJECTIVE(m, p, tiny.batch(), None, train=True))(p)
    for m, p in (
      (model, variables),
      (assembly.build(unrolled), {"params": flat}),
    )
  ]
  first, second = (x.sums["attention_distillation"] for x in losses)
  np.testing.assert_allclose(first, second, rtol=1e-5)


def test_the_weights_of_an_objective_are_real_tokens():
  (weight,) = OBJECTIVE.weights(tiny.batch()).values()
  assert weight == (tiny.SEGMENTS > 0).sum()


def test_what_cannot_be_replaced_is_told():
  def replaced(change, **mixer):
    return replacement.apply({**softmax_spec(**mixer), "replace": change})

  hedgehog = dict(mixer=dict(kind="hedgehog"))
  with pytest.raises(UserError, match="'hedgehog' has no window"):
    replaced(hedgehog, window=8)
  with pytest.raises(UserError, match="has no key_heads"):
    replaced(hedgehog, key_heads=2)
  with pytest.raises(UserError, match="cannot take the place of 'attention'"):
    replaced(dict(mixer=dict(kind="cross_attention")))
  with pytest.raises(UserError, match="Did you mean 'mixer'"):
    replaced(dict(mixers=dict(kind="hedgehog")))
  with pytest.raises(UserError, match="set config.init_from"):
    replacement.apply(REPLACE)
  with pytest.raises(UserError, match="no layer imitates"):
    model, variables = tiny.build(softmax_spec())
    OBJECTIVE(model, variables, tiny.batch(), None, train=True)
  spec = replacement.apply({**softmax_spec(), **REPLACE})
  spec["embeddings"] = dict(kind="token", types=2)  # not to be drawn anew
  _, variables = tiny.build(softmax_spec())
  with pytest.raises(UserError, match="have no embeddings/type_table"):
    adapt(tiny.host(variables["params"]), softmax_spec(), spec)


@pytest.mark.slow
def test_exponentials_imitate_softmax_best():
  """Random heads, 400 steps: the order of the feature maps (the sheet's)."""
  rng = np.random.default_rng(0)
  query, key, value = (
    jnp.asarray(rng.standard_normal((2, 32, 4, 16)), jnp.float32)
    for _ in range(3)
  )
  ctx = tiny.context(np.ones((2, 32), np.int32))
  _, p = _imitation.softmax_attention(query * 1.5, key * 1.5, value, ctx, False)
  ends = {}
  for name in ("exp", "softmax", "elu", "relu"):
    make = _feature_maps.FeatureMap(name)
    params = [
      tiny.nn.meta.unbox(make.init(jax.random.key(0), x)) for x in (query, key)
    ]

    def loss(params, make=make):
      mapped = [
        make.apply(w, x * 1.5)
        for w, x in zip(params, (query, key), strict=True)
      ]
      kl, floor = _imitation.cross_entropy(p, *mapped, ctx)
      return jnp.mean(kl - floor)

    tx = optax.adamw(1e-2)
    step = jax.jit(jax.value_and_grad(loss))
    state, start = tx.init(params), float(loss(params))
    for _ in range(400):
      _, gradients = step(params)
      updates, state = tx.update(gradients, state, params)
      params = optax.apply_updates(params, updates)
    ends[name] = float(loss(params))
    assert 0 < ends[name] < start
  assert ends["exp"] < ends["softmax"] < ends["elu"] < ends["relu"], ends
