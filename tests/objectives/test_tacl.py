"""TaCL by its closed form and its formula, and its teacher in the state."""

import functools

import jax
import numpy as np
import pytest

from jaxlm import errors, paths, sharding
from jaxlm.models import assembly, taught
from jaxlm.objectives import objectives
from jaxlm.optimizers import optimizers
from jaxlm.training import state as states
from jaxlm.training.step import make_train_step
from tests import tiny

ROWS = 8
SEGMENTS = np.tile(tiny.SEGMENTS, (4, 1))


def batch():
  """Packed rows; the last prediction of a row has no weight."""
  made = tiny.batch(SEGMENTS)
  rng = np.random.default_rng(5)
  shape = made["predict_positions"].shape
  weights = np.ones(shape, np.float32)
  weights[:, -1] = 0.0
  return made | dict(
    predict_ids=rng.integers(1, tiny.VOCAB, shape).astype(np.int32),
    predict_weights=weights,
  )


def part(**fields):
  return objectives.build(dict(kind="tacl", **fields))


@functools.cache
def model():
  spec = tiny.model_spec(
    heads=dict(masked_lm=dict(kind="masked_lm")), dropout=0.1
  )
  return taught.Taught(assembly.build(spec))


@functools.cache
def variables():
  boxed = tiny.shapes(model().model, batch())
  return {
    "params": tiny.fill(boxed)["params"],
    "teacher": tiny.fill(boxed, seed=1)["params"],
  }


class Fixed:
  def apply(self, variables, batch, *, train=False, rngs=None, teacher=False):
    return variables["teacher" if teacher else "params"]


def test_equal_states_cost_the_logarithm_of_the_document():
  data = batch()
  hidden = np.ones((*SEGMENTS.shape, 4), np.float32)
  logits = np.zeros((*data["predict_ids"].shape, 5), np.float32)
  outputs = dict(hidden=hidden, masked_lm=logits)
  found = part()(
    Fixed(), dict(params=outputs, teacher=outputs), data, None, train=False
  )
  sizes = [
    np.log((row == row[place]).sum())
    for row, places in zip(SEGMENTS, data["predict_positions"])
    for place in places[:-1]
  ]
  np.testing.assert_allclose(found.sums["tacl"], np.sum(sizes), rtol=1e-5)


def test_the_text_is_restored():
  data = batch()
  text = np.random.default_rng(1).integers(1, 60, SEGMENTS.shape)
  masked = text.copy()
  rows = np.arange(ROWS)[:, None]
  counted = data["predict_positions"][:, :-1]
  data["predict_ids"][:, :-1] = text[rows, counted]
  masked[rows, counted] = 63
  from jaxlm.objectives import tacl

  found = tacl.restored(data | dict(inputs=masked.astype(np.int32)))["inputs"]
  np.testing.assert_array_equal(found, text)


def test_the_loss_is_its_formula_and_the_teacher_reads_the_text():
  from jaxlm.objectives import tacl

  data = batch()
  objective = part(temperature=0.5, contrast=2.0)
  run = jax.jit(
    lambda v, data: objective(model(), v, data, jax.random.key(0), train=False)
  )
  found = run(variables(), data)
  plain = model().model
  hidden = jax.jit(
    lambda params, data: plain.apply({"params": params}, data)["hidden"]
  )
  student = np.asarray(hidden(variables()["params"], data), np.float64)
  text = tacl.restored(data)
  teacher = np.asarray(hidden(variables()["teacher"], text), np.float64)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  student, teacher, total = unit(student), unit(teacher), 0.0
  for row, places in enumerate(data["predict_positions"]):
    for place in places[:-1]:
      own = SEGMENTS[row] == SEGMENTS[row, place]
      scores = teacher[row] @ student[row, place] / 0.5
      total += np.log(np.exp(scores[own]).sum()) - scores[place]
  np.testing.assert_allclose(found.sums["tacl"], total, rtol=1e-4)
  base = objectives.build(dict(kind="masked_lm"))
  alone = base(plain, variables(), data, None, train=False)
  np.testing.assert_allclose(
    found.sums["masked_lm"], alone.sums["masked_lm"], rtol=1e-5
  )
  assert objective.coefficients == {"tacl": 2.0}
  weights = tiny.host(objective.weights(data))
  assert weights == dict(masked_lm=2 * ROWS, tacl=2 * ROWS)


def test_the_teacher_is_what_training_started_from_and_stays():
  """Sharded like the parameters, without optimizer state."""
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  tx = optimizers.build(dict(kind="adamw", learning_rate=1e-2))
  spec = {
    key: jax.ShapeDtypeStruct(value.shape, value.dtype)
    for key, value in batch().items()
  }
  state = states.create(
    model(), tx, spec, seed=0, mesh=mesh, params=variables()["params"]
  )
  given = tiny.host(variables()["params"])
  jax.tree.map(np.testing.assert_array_equal, state.extra["teacher"], given)
  same = lambda a, b: a.sharding == b.sharding
  assert all(
    jax.tree.leaves(jax.tree.map(same, state.extra["teacher"], state.params))
  )
  slots = paths.flatten(state.opt_state)
  assert not any("teacher" in path for path in slots)
  drawn = states.create(model(), tx, spec, seed=0, mesh=mesh)
  jax.tree.map(
    np.testing.assert_array_equal,
    tiny.host(drawn.extra["teacher"]),
    tiny.host(drawn.params),
  )
  step = make_train_step(
    model(), part(), tx, schedule=lambda _: 0.01, mesh=mesh, state=state
  )
  placed = sharding.shard_batch(batch(), mesh)
  losses = []
  for _ in range(3):
    state, metrics = step(state, placed)
    losses.append(float(metrics["loss/tacl"]))
  assert losses[2] < losses[0] and metrics["finite"]
  jax.tree.map(np.testing.assert_array_equal, state.extra["teacher"], given)
  moved = np.abs(
    np.asarray(state.params["embeddings"]["table"])
    - (given["embeddings"]["table"])
  )
  assert moved.max() > 1e-3


@pytest.mark.parametrize(
  "fields, words",
  [
    (dict(temperature=0.0), "temperature is 0.0"),
    (dict(base=dict(kind="causal_lm")), "'causal_lm', which predicts no mask"),
    (dict(base=dict(kind="masked")), "Did you mean 'masked_lm'"),
  ],
)
def test_wrong_settings_are_told(fields, words):
  with pytest.raises(errors.UserError, match=words):
    part(**fields)
