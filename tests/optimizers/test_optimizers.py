"""Facts of each optimizer, and the contract of all that are registered."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm import sharding
from jaxlm.errors import UserError
from jaxlm.optimizers import _parts, optimizers
from jaxlm.training import checkpoint
from jaxlm.training import state as states
from jaxlm.training import step as steps
from tests.training import toy

KINDS = optimizers.kinds()
# Those that are another kind's arithmetic, or none, are tried when there is
# time.
_LIKE_OTHERS = (
  "accumulate",
  "eight_bit",
  "frozen",
  "fsam",
  "gradnormlorp",
  "groups",
  "lamb",
  "layer_decay",
  "muon",
  "prior_decay",
  "sam",
  "shampoo",
  "soap",
  "sophia",
  "stable_adamw",
)
SOME = pytest.mark.parametrize(
  "kind",
  [
    pytest.param(k, marks=pytest.mark.slow if k in _LIKE_OTHERS else ())
    for k in KINDS
  ],
)
# What the train step gives to every optimizer, and what none knows.
GIVEN = dict(
  value=jnp.float32(1.0),
  obj_fn=lambda params, *_: 0.5 * optax.tree.norm(params, squared=True),
  grad_fn=lambda params, *_: params,
  fisher_fn=lambda params, rows: jax.tree.map(
    lambda p: jnp.square(p.astype(jnp.float32)), params
  ),
)
FOREIGN = dict(another=jnp.float32(3.0))


def build(kind, **given):
  return optimizers.build(
    {**optimizers.entry(kind).example, "kind": kind, **given}
  )


@pytest.fixture
def params():
  draw = np.random.Generator(np.random.Philox(3)).standard_normal
  return {
    "layer": {
      "kernel": jnp.asarray(draw((4, 8)), jnp.float32),
      "bias": jnp.asarray(draw(8), jnp.float32),
    },
    "norm": {"scale": jnp.ones(4)},
    "table": jnp.asarray(draw((6, 4)), jnp.float32),
  }


def like(params, seed):
  draw = np.random.Generator(np.random.Philox(seed)).standard_normal
  return jax.tree.map(lambda p: jnp.asarray(draw(p.shape), p.dtype), params)


def walk(tx, params, count=3, **extra):
  state = tx.init(params)

  @jax.jit
  def step(grads, state, params):
    updates, state = tx.update(grads, state, params, **extra)
    return optax.apply_updates(params, updates), state

  for index in range(count):
    params, state = step(like(params, index), state, params)
  return params, state


def close(a, b, tolerance=1e-6):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance
    ),
    a,
    b,
  )


@pytest.mark.parametrize("kind", KINDS)
def test_it_takes_the_extra_arguments_and_ignores_foreign_ones(kind, params):
  tx = build(kind)
  plain, _ = walk(tx, params, **GIVEN)
  told, _ = walk(tx, params, **GIVEN, **FOREIGN)
  close(plain, told, 0)


@SOME
def test_jit_is_eager(kind, params):
  tx = build(kind)
  state = tx.init(params)
  grads = like(params, 0)
  update = lambda g, s, p: tx.update(g, s, p, **GIVEN)
  # Eigenvectors move by rounding over the gap of their values.
  limit = 1e-5 if kind == "soap" else 1e-6
  eager = update(grads, state, params)
  close(eager, jax.jit(update)(grads, state, params), limit)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_states_are_float32_and_stable(kind, dtype, params):
  params = jax.tree.map(lambda p: p.astype(dtype), params)
  tx = build(kind)
  new, state = walk(tx, params, 2, **GIVEN)
  shape = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shape(state) == shape(tx.init(params))
  assert shape(new) == shape(params)
  kinds = {leaf.dtype for leaf in jax.tree.leaves(state)}
  assert kinds <= {jnp.dtype(d) for d in ("float32", "int32", "uint8", "bool")}


@pytest.mark.parametrize("kind", KINDS)
def test_zero_gradients_stay_finite(kind, params):
  tx = build(kind)
  zeros = jax.tree.map(jnp.zeros_like, params)
  given = GIVEN | dict(grad_fn=lambda params, *_: zeros)
  updates, state = tx.update(zeros, tx.init(params), params, **given)
  updates, state = tx.update(zeros, state, params, **given)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves((updates, state)))


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"frozen"}))
def test_it_reads_the_schedule_where_the_run_is(kind, params):
  tx = build(kind, learning_rate=lambda at: jnp.float32(1e-2) * (at >= 500))
  grads, state = like(params, 0), tx.init(params)
  update = lambda **at: tx.update(grads, state, params, **GIVEN, **at)[0]
  still = update(schedule_step=jnp.float32(499))
  moved = update(schedule_step=jnp.float32(500))
  by_count = update()
  assert optax.tree.norm(still) == optax.tree.norm(by_count) == 0
  assert optax.tree.norm(moved) > 0


def test_every_state_comes_back_from_a_checkpoint(params, tmp_path):
  """Of all kinds in one checkpoint, after two updates that moved them."""
  found = {kind: walk(build(kind), params, 2, **GIVEN)[1] for kind in KINDS}
  state = states.TrainState(
    jnp.int32(2), params, found, {}, jax.random.key_data(jax.random.key(0))
  )
  saved = checkpoint.Checkpoints(tmp_path)
  saved.save(state, {})
  saved.close()
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state
  )
  back = checkpoint.Checkpoints(tmp_path).restore(like).state
  assert jax.tree.structure(back) == jax.tree.structure(state)
  jax.tree.map(np.testing.assert_array_equal, back, state)


def train(tx, mesh, microbatches=1):
  task, model = toy.task(), toy.ToyModel()
  state = states.create(model, tx, task.batch_spec, seed=0, mesh=mesh)
  step = steps.make_train_step(
    model,
    toy.ToyObjective(),
    tx,
    schedule=lambda _: jnp.float32(1e-3),
    microbatches=microbatches,
    mesh=mesh,
    state=state,
  )
  for index in range(2):
    batch = sharding.shard_batch(task.batch_at(0, index), mesh)
    state, _ = step(state, batch)
  return jax.device_get(state.params)


@SOME
def test_sharded_and_microbatched_are_the_whole(kind):
  tx = build(kind)
  alone = train(tx, sharding.make_mesh(devices=jax.devices()[:1]))
  spread = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  # Adam divides small gradients by small roots: rounding is magnified.
  close(alone, train(tx, spread, microbatches=2), 1e-4)


def test_adamw_is_that_of_optax(params):
  mask = _parts.decay_mask("no_bias_norm")
  other = optax.adamw(1e-2, 0.9, 0.95, 1e-6, weight_decay=0.1, mask=mask)
  mine = optimizers.build(
    dict(kind="adamw", b2=0.95, eps=1e-6, weight_decay=0.1), learning_rate=1e-2
  )
  close(walk(mine, params)[0], walk(other, params)[0])


def test_adam_of_bert_corrects_no_bias():
  """m and v by hand; without correction the first step is (1-b1)/sqrt(1-b2)."""
  tx = optimizers.build(
    dict(
      kind="adamw",
      learning_rate=0.1,
      b2=0.99,
      eps=1e-6,
      weight_decay=0.01,
      decay="all",
      bias_correction=False,
    )
  )
  p, m, v = 2.0, 0.0, 0.0
  params = {"bias": jnp.float32([p])}
  state = tx.init(params)
  for g in (0.5, -0.2):
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    p -= 0.1 * (m / (np.sqrt(v) + 1e-6) + 0.01 * p)
    updates, state = tx.update({"bias": jnp.float32([g])}, state, params)
    params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["bias"], [p], rtol=1e-6)


def test_decay_of_mosaicbert_as_composer_writes_it():
  """p * (1 - wd * rate / peak) is weight_decay = wd / peak."""
  peak, rate, wd = 5e-4, 2e-4, 1e-5
  tx = optimizers.build(
    dict(kind="adamw", learning_rate=rate, weight_decay=wd / peak, decay="all")
  )
  params = {"norm": {"scale": jnp.float32([3.0])}}
  zero = {"norm": {"scale": jnp.zeros(1)}}
  updates, _ = tx.update(zero, tx.init(params), params)
  np.testing.assert_allclose(
    updates["norm"]["scale"], [-3.0 * wd * rate / peak], rtol=1e-6
  )


def test_stable_adamw_golden():
  """Numbers of torch-optimi (systems/modernbert.md)."""
  tx = optimizers.build(
    dict(kind="stable_adamw", weight_decay=0.01, decay="all"),
    learning_rate=1e-2,
  )
  params = {"p": jnp.float32([1, 2, 3])}
  state = tx.init(params)
  for grad, expected in (
    ([0.1, -0.2, 0.3], [0.9899001, 2.0098, 2.9897001]),
    ([1.0, -0.1, 0.0], [0.981768, 2.0189476, 2.9826682]),
  ):
    updates, state = tx.update({"p": jnp.float32(grad)}, state, params)
    params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["p"], expected, rtol=1e-6)


def test_stable_adamw_clips_scanned_layers_one_by_one():
  tx = build("stable_adamw")
  first = {"a": jnp.float32([[1.0, 2.0], [3.0, 4.0]])}
  quiet = {"a": jnp.full((2, 2), 0.1, jnp.float32)}
  loud = {"a": jnp.full((2, 2), 9.0, jnp.float32)}
  stack = lambda x, y: {"loop": {"a": jnp.stack([x["a"], y["a"]])}}
  runs = []
  for grads in (
    [(quiet, quiet), (quiet, loud)],
    [(quiet, quiet), (quiet, quiet)],
  ):
    params = stack(first, first)
    state = tx.init(params)
    for pair in grads:
      updates, state = tx.update(stack(*pair), state, params)
      params = optax.apply_updates(params, updates)
    runs.append(params["loop"]["a"])
  # A loud second layer does not shorten the first layer's step.
  np.testing.assert_array_equal(runs[0][0], runs[1][0])
  assert (runs[0][1] != runs[1][1]).any()


def test_what_decays():
  flat = lambda *shape: jnp.ones(shape)
  params = {
    "embeddings": {"table": flat(7, 4), "norm": {"scale": flat(4)}},
    "loop": {
      "query": {"kernel": flat(2, 4, 4), "bias": flat(2, 4)},
      "attention_norm": {"scale": flat(2, 4)},
      "normal": {"kernel": flat(2, 4, 4)},
    },
    "slopes": flat(3),
  }
  mask = _parts.decay_mask("no_bias_norm")(params)
  assert mask == {
    "embeddings": {"table": True, "norm": {"scale": False}},
    "loop": {
      "query": {"kernel": True, "bias": False},
      "attention_norm": {"scale": False},
      "normal": {"kernel": True},
    },
    "slopes": False,
  }
  assert all(jax.tree.leaves(_parts.decay_mask("all")(params)))
  rules = [("table", False), ("loop", True)]
  with pytest.raises(UserError, match="No rule covers.*slopes"):
    _parts.decay_mask(rules)(params)
  mask = _parts.decay_mask([*rules, ("", False)])(params)
  assert mask["loop"]["query"]["bias"] and not mask["embeddings"]["table"]


def test_bad_words_are_told():
  with pytest.raises(UserError, match="'no_bias'.*Did you mean 'no_bias_norm'"):
    build("adamw", decay="no_bias")
  with pytest.raises(UserError, match="takes no beta1"):
    build("adamw", beta1=0.9)
