"""Two towers in the real loop: resuming, meshes, microbatches, groups."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import paths, sharding
from jaxlm.models import assembly, two_tower
from jaxlm.optimizers import optimizers
from jaxlm.training import checkpoint, loop
from jaxlm.training import state as states
from jaxlm.training.hooks import Every
from jaxlm.training.step import make_value_and_grad
from tests import tiny
from tests.tiny import quick_compilation as quick_compilation
from tests.training import runs, towers

GROUPS = dict(
  kind="groups",
  groups=dict(
    generator=dict(paths="^generator/", optimizer=dict(kind="adamw")),
    discriminator=dict(paths="", rate=0.5, optimizer=dict(kind="adamw")),
  ),
)


class Crash(Exception):
  pass


def crash(moment):
  if moment.step == 5:
    raise Crash


def grouped(**given):
  """Disentangled tables, an optimizer a tower."""
  tx = optimizers.build(GROUPS, learning_rate=0.02)
  return towers.make(sharing="gradient_disentangled", tx=tx, **given)


@pytest.mark.slow
def test_a_crashed_run_goes_on_to_the_same_bits(tmp_path):
  whole = loop.train(grouped(), tmp_path / "whole")
  with pytest.raises(Crash):
    loop.train(grouped(), tmp_path / "cut", hooks=[Every(1, crash)])
  again = loop.train(grouped(), tmp_path / "cut")
  assert runs.outcome(again) == runs.outcome(whole)
  line = runs.lines(tmp_path / "whole")[-1]
  told = {
    "loss/masked_lm",
    "loss/replaced_token",
    "generator_accuracy",
    "discriminator_accuracy",
    "replaced_rate",
    "replaced_recall",
    "replaced_precision",
  }
  assert told <= line.keys()
  assert {f"validation/{name}" for name in told} <= line.keys()
  held, _ = checkpoint.load_params(tmp_path / "whole")
  assert held.keys() == {"generator", "discriminator"}
  # Both towers have left their start, the difference of tables too.
  fresh = states.create(
    whole_model(), grouped().tx, towers.task().batch_spec, seed=5, mesh=one()
  )
  for path, leaf in paths.flatten(jax.device_get(fresh.params)).items():
    moved = np.abs(paths.flatten(held)[path] - leaf).max()
    assert moved > 0, path


def whole_model():
  return grouped().model


def one():
  return sharding.make_mesh(devices=jax.devices()[:1])


@functools.cache
def variables():
  model = towers.make().model
  boxed = tiny.shapes(model, towers.batch_at(0, 0))
  return boxed, tiny.fill(boxed)


def gradients(microbatches=1, mesh=None, dropout=0.1, **fields):
  """Loss, metrics and gradients of one batch."""
  model = assembly.build(towers.spec(dropout=dropout))
  plan = towers.make(objective=fields, model=model)
  boxed, values = variables()
  batch = towers.batch_at(0, 0)
  if mesh is not None:
    values = jax.device_put(values, sharding.state_shardings(boxed, mesh))
    batch = sharding.shard_batch(batch, mesh)
  run = make_value_and_grad(plan.model, plan.objective, microbatches, mesh)
  (loss, (_, metrics)), grads = jax.jit(run)(
    values["params"], {}, batch, jax.random.key(1)
  )
  return jax.device_get((loss, metrics)), paths.flatten(jax.device_get(grads))


def close(found, expected):
  for name, value in expected[0][1].items():
    np.testing.assert_allclose(found[0][1][name], value, rtol=1e-4, atol=1e-5)
  for path, leaf in expected[1].items():
    np.testing.assert_allclose(
      found[1][path], leaf, rtol=1e-3, atol=2e-4, err_msg=path
    )


def test_sharded_equals_unsharded_samples_and_dropout_too():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  close(gradients(mesh=mesh), gradients())


@pytest.mark.slow
def test_microbatches_add_up_to_the_batch():
  """Up to the keys: so cold a sample is the likeliest, and nothing drops."""
  fixed = dict(temperature=1e-6, dropout=0.0)
  close(gradients(microbatches=2, **fixed), gradients(**fixed))


@pytest.mark.slow
def test_an_optimizer_of_its_own_forgets_the_weight_of_its_term():
  """The sheet: with Adam a tower's step does not grow with lambda."""
  params = variables()[1]["params"]
  updates = []
  for weight in (1.0, 10.0):
    grads = jax.tree.map(lambda p: jnp.cos(p) * 0.1, params)
    times = functools.partial(jnp.multiply, weight)
    scaled = jax.tree.map(times, grads["discriminator"])
    tx = optimizers.build(GROUPS, learning_rate=0.1)
    grads = {**grads, two_tower.DISCRIMINATOR: scaled}
    made, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    updates.append(paths.flatten(made))
  for path, update in updates[0].items():
    np.testing.assert_allclose(update, updates[1][path], rtol=1e-4, atol=1e-6)
