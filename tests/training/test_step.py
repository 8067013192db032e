"""The train step: exact accumulation, clipping, extra arguments, NaN."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import _flops
from jaxlm import sharding
from jaxlm.training import state as states
from jaxlm.training import step as steps
from tests.training import toy

RATE = 0.1


def run(*, mesh=None, count=3, tx=None, model=None, task=None, **given):
  """Trains `count` steps of SGD with momentum; (state, metrics of each)."""
  mesh = mesh or sharding.make_mesh(devices=jax.devices()[:1])
  task = task or toy.task()
  model = model or toy.ToyModel()
  tx = tx or optax.sgd(RATE, momentum=0.9)
  state = states.create(model, tx, task.batch_spec, seed=0, mesh=mesh)
  step = steps.make_train_step(
    model,
    toy.ToyObjective(),
    tx,
    schedule=lambda _: jnp.float32(RATE),
    mesh=mesh,
    state=state,
    **given,
  )
  history = []
  for index in range(count):
    batch = sharding.shard_batch(task.batch_at(0, index), mesh)
    clock = steps.Clock(np.int32(index), np.int32(index))
    state, metrics = step(state, batch, clock)
    history.append(jax.device_get(metrics))
  assert step._cache_size() == 1  # nothing compiled twice
  return state, history


def close(a, b, tolerance=1e-5):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance
    ),
    a,
    b,
  )


@pytest.mark.parametrize(
  "microbatches", [pytest.param(2, marks=pytest.mark.slow), 8]
)
def test_microbatches_give_the_gradient_of_the_whole_batch(microbatches):
  whole, first = run()
  parts, second = run(microbatches=microbatches)
  close(whole.params, parts.params)
  for a, b in zip(first, second):
    close(a, b)


def test_microbatches_are_not_a_mean_of_means():
  """Rows weigh by their tokens: ragged rows would give another gradient."""
  task = toy.task()
  weights = task.batch_at(0, 0)["weights"]
  split = steps.split_batch({"w": weights}, 2)["w"]
  assert split[0].sum() != split[1].sum()
  np.testing.assert_array_equal(split[0], weights[0::2])


@pytest.mark.parametrize(
  "sizes",
  [
    pytest.param(dict(data=8), marks=pytest.mark.slow),
    dict(data=1, fsdp=8),
    dict(data=2, fsdp=2, tensor=2),
    pytest.param(dict(data=1, fsdp=1, tensor=8), marks=pytest.mark.slow),
  ],
)
def test_sharded_training_equals_unsharded(sizes):
  alone, first = run(microbatches=2)
  spread, second = run(mesh=sharding.make_mesh(**sizes), microbatches=2)
  close(jax.device_get(alone.params), jax.device_get(spread.params))
  for a, b in zip(first, second):
    close(a, b)


def test_the_state_keeps_its_shardings():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  state, _ = run(mesh=mesh, count=1)
  kernel = state.params["wide"]["kernel"]
  assert {s.data.shape for s in kernel.addressable_shards} == {(4, 8)}


def test_the_loss_is_that_of_the_objective():
  _, history = run(count=1)
  model, objective, task = toy.ToyModel(), toy.ToyObjective(), toy.task()
  state = states.create(
    model, optax.sgd(RATE), task.batch_spec, seed=0, mesh=sharding.make_mesh()
  )
  batch = task.batch_at(0, 0)
  sums = objective(
    model, {"params": state.params}, batch, None, train=False
  ).sums
  token = sums["token"] / batch["weights"].sum()
  size = sums["size"] / len(batch["inputs"])
  got = history[0]
  np.testing.assert_allclose(got["loss"], token + 0.01 * size, rtol=1e-6)
  np.testing.assert_allclose(got["loss/token"], token, rtol=1e-6)
  np.testing.assert_allclose(got["loss/size"], size, rtol=1e-6)
  assert got["tokens"] == batch["segments"].sum()
  assert got["step"] == 1 and got["learning_rate"] == np.float32(RATE)


def test_clipping_bounds_the_update():
  free, history = run(count=1, tx=optax.sgd(1.0))
  norm = history[0]["grad_norm"]
  fresh = states.create(
    toy.ToyModel(),
    optax.sgd(1.0),
    toy.task().batch_spec,
    seed=0,
    mesh=sharding.make_mesh(),
  )
  moved = lambda state: optax.tree.norm(
    jax.tree.map(
      lambda a, b: np.asarray(a) - np.asarray(b), state.params, fresh.params
    )
  )
  np.testing.assert_allclose(moved(free), norm, rtol=1e-5)
  clipped, history = run(count=1, tx=optax.sgd(1.0), clip_norm=0.1)
  np.testing.assert_allclose(moved(clipped), 0.1, rtol=1e-4)
  assert history[0]["grad_norm"] == norm  # reported before clipping
  grads = {"a": jnp.float32([3.0, 4.0])}
  for limit, expected in ((0, 5.0), (10.0, 5.0), (0.5, 0.5)):
    got = optax.tree.norm(steps.clip(grads, jnp.float32(5.0), limit))
    assert got == pytest.approx(expected)
  zero = {"a": jnp.zeros(2)}
  assert not steps.clip(zero, jnp.float32(0.0), 1.0)["a"].any()


def test_the_optimizer_gets_the_loss_and_its_closures():
  seen = {}

  def update(updates, state, params, **extra):
    moved = jax.tree.map(lambda p: p * 1.5, params)
    seen.update(extra)
    again = extra["grad_fn"](params, 0)  # optax.contrib.sam passes an index
    return updates, {
      "value": extra["value"],
      "same": extra["obj_fn"](params),
      "moved": extra["obj_fn"](moved),
      "error": optax.tree.norm(jax.tree.map(jnp.subtract, again, updates)),
    }

  zeros = dict.fromkeys(("value", "same", "moved", "error"), jnp.float32(0))
  tx = optax.GradientTransformationExtraArgs(lambda _: zeros, update)
  state, history = run(
    count=1, tx=tx, model=toy.ToyModel(dropout=0.5), microbatches=2
  )
  got = state.opt_state
  # The closures see the same rows and the same dropout as the step.
  assert got["value"] == got["same"] == history[0]["loss"]
  assert got["moved"] != got["same"]
  assert got["error"] < 1e-6
  given = {"value", "obj_fn", "grad_fn", "fisher_fn", "schedule_step"}
  assert set(seen) == given | {"hvp_fn"} and seen["hvp_fn"] is None


def _product(update):
  """An optimizer whose state is what update(params, grad_fn, hvp_fn) gives."""

  def init(params):
    return jax.tree.map(jnp.zeros_like, params)

  def of_step(updates, state, params, *, grad_fn, hvp_fn, **extra):
    del state, extra
    return updates, update(params, grad_fn, hvp_fn)

  return optax.GradientTransformationExtraArgs(init, of_step)


def test_a_product_with_the_hessian_shares_the_gradients_pass():
  forward = _product(
    lambda params, grad_fn, _: jax.jvp(grad_fn, (params,), (params,))[1]
  )
  linear = _product(lambda params, _, hvp_fn: hvp_fn(params))
  found, flops = [], []
  for tx in (forward, linear):
    model = toy.ToyModel(dropout=0.5)
    state, _ = run(count=1, tx=tx, model=model)
    found.append(state.opt_state)
    step = steps.make_train_step(
      model, toy.ToyObjective(), tx, schedule=lambda _: jnp.float32(RATE)
    )
    flops.append(_flops.count(step, state, toy.task().batch_at(0, 0)))
  close(*found)
  assert optax.tree.norm(found[0]) > 0.1
  # A pass forward and two back, twice that for the product, and with
  # grad_fn the three once more.
  assert flops[1] < 0.8 * flops[0]


def test_dropout_differs_by_step_and_microbatch_and_repeats_by_seed():
  model = toy.ToyModel(dropout=0.5)
  still = optax.sgd(0.0)
  task = toy.task(rows=16, batch_size=16)
  same = task._replace(batch_at=lambda seed, step: task.batch_at(seed, 0))
  _, history = run(model=model, tx=still, task=same)
  losses = [float(m["loss"]) for m in history]
  assert len(set(losses)) == 3
  _, again = run(model=model, tx=still, task=same)
  assert losses == [float(m["loss"]) for m in again]


def test_each_microbatch_draws_its_own_dropout():
  """Four equal rows in two microbatches: one draw each, or the same twice."""
  model, task = toy.ToyModel(dropout=0.5), toy.task()
  state = jax.jit(
    lambda: states.initial(model, optax.sgd(0.0), task.batch_spec, 0)
  )()
  params = nn.unbox(state.params)
  rows = {k: np.repeat(v[:1], 4, 0) for k, v in task.batch_at(0, 0).items()}
  value = steps.make_value_and_grad(model, toy.ToyObjective(), 2)
  (both, _), _ = jax.jit(value)(params, {}, rows, jax.random.key(0))
  half = steps.make_value_and_grad(model, toy.ToyObjective(), 1)
  two = {k: v[:2] for k, v in rows.items()}
  (first, _), _ = jax.jit(half)(params, {}, two, jax.random.key(0))
  # The first microbatch alone has that loss; the mean with the second differs.
  assert both != first


def test_a_loss_that_is_not_finite_changes_nothing_from_then_on():
  task = toy.task(poison_step=1)
  one, _ = run(task=task, count=1)
  four, history = run(task=task, count=4)
  jax.tree.map(np.testing.assert_array_equal, one, four)
  assert [bool(m["finite"]) for m in history] == [True, False, False, False]
  assert [int(m["step"]) for m in history] == [1, 1, 1, 1]
  assert np.isnan(history[1]["loss"]) and np.isfinite(history[2]["loss"])


def test_an_empty_batch_gives_zero_and_no_nan():
  task = toy.task()

  def empty(seed, step):
    batch = dict(task.batch_at(seed, step))
    return batch | {"weights": np.zeros_like(batch["weights"])}

  _, history = run(task=task._replace(batch_at=empty), count=1)
  assert history[0]["loss/token"] == 0 and history[0]["accuracy"] == 0
  assert history[0]["finite"]


def test_fisher_is_the_mean_of_squared_gradients_of_single_rows():
  task, model = toy.task(), toy.ToyModel()
  batch = task.batch_at(0, 0)
  variables = nn.unbox(model.init(jax.random.key(0), batch, train=False))
  objective = toy.ToyObjective()

  def likelihood(params, row):
    sums = objective(model, {"params": params}, row, None, train=False).sums
    return sum(
      objective.coefficients.get(name, 1.0) * value
      for name, value in sums.items()
    )

  every_second = range(0, 16, 2)
  rows = [{k: v[i : i + 1] for k, v in batch.items()} for i in every_second]
  params = variables["params"]
  gradient = jax.jit(jax.grad(likelihood))
  every = [gradient(params, row) for row in rows]
  expected = jax.tree.map(lambda *g: sum(x**2 for x in g) / 8, *every)
  found = steps.fisher(model, objective, {}, batch, params, 8)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)
  jax.tree.map(close, found, expected)
  boxed = jax.eval_shape(
    lambda: model.init(jax.random.key(0), batch, train=False)
  )
  for shape in (dict(data=4, fsdp=2), dict(data=2, fsdp=2, tensor=2)):
    mesh = sharding.make_mesh(**shape)
    places = sharding.state_shardings(boxed, mesh)["params"]
    run = functools.partial(
      steps.fisher, model, objective, {}, mesh=mesh, places=places
    )
    spread = jax.jit(lambda p, b, run=run: run(b, p, 8))(
      jax.device_put(params, places), sharding.shard_batch(batch, mesh)
    )
    jax.tree.map(close, spread, expected)
    assert all(
      leaf.sharding.is_equivalent_to(place, leaf.ndim)
      for leaf, place in zip(jax.tree.leaves(spread), jax.tree.leaves(places))
    )
