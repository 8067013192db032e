"""Every objective with every model that has its heads, in the real loop."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxlm import abilities, paths, sharding
from jaxlm.errors import UserError
from jaxlm.models import models
from jaxlm.objectives import base, objectives
from jaxlm.training import loop, plan
from jaxlm.training.hooks import Every
from jaxlm.training.step import make_value_and_grad
from tests import tiny
from tests.contracts import objective_products as products
from tests.training import runs

LEGAL, FEW = products.legal(), products.few()
# One of each way that a step differs: a teacher, towers, a decoder, views.
RUN = [
  pair
  for pair in FEW
  if pair[0] in ("tacl", "replaced_token_detection", "e2s2", "clear")
]
OF_TOWERS = ("masked_lm", "replaced_token", "corruption")  # told by no table
# objective -> terms of which a row is one text; those that tell texts of one
# row apart.
OF_ROWS = {"e2s2": {"contrast"}}
BY_ROW = ("clear", "continuous_margin", "declutr", "simcse")


def some(pairs, always):
  """All of these, slow but for some."""
  mark = lambda pair: () if pair in always else pytest.mark.slow
  return [pytest.param(*pair, marks=mark(pair)) for pair in pairs]


def test_every_objective_and_every_model_is_here():
  assert set(products.NEEDED) == set(objectives.kinds())
  assert set(products.MODELS) == set(models.kinds())
  assert {o for o, _ in FEW} == set(objectives.kinds())
  assert {m for _, m in FEW} == set(models.kinds())
  assert len(LEGAL) > 100
  for objective, heads in products.NEEDED.items():
    goal = objectives.build({"kind": objective})
    wanted = set(heads) - {"masked_lm"}
    assert wanted <= set(base.heads_of(goal)) <= {*heads, *OF_TOWERS}


@pytest.mark.parametrize("objective, model", LEGAL)
def test_it_has_gradients_of_every_parameter(objective, model):
  """By shapes alone, which costs no compilation."""
  goal, made, batch = products.parts(objective, model)
  key = jax.random.key(0)

  def run():
    variables = nn.unbox(made.init({"params": key, "dropout": key}, batch))
    params = variables.pop("params")
    step = make_value_and_grad(made, goal, 2, None)
    (loss, (_, scalars)), gradients = step(params, variables, batch, key)
    return loss, scalars, gradients, params

  loss, scalars, gradients, params = jax.eval_shape(run)
  assert loss.shape == () and loss.dtype == np.float32
  assert {f"loss/{term}" for term in goal.weights(batch)} <= scalars.keys()
  shapes = lambda tree: {k: v.shape for k, v in paths.flatten(tree).items()}
  assert shapes(gradients) == shapes(params)


@pytest.mark.parametrize(
  "objective, model", [p for p in products.pairs() if p not in LEGAL]
)
def test_what_does_not_go_together_is_refused(objective, model):
  why = products.reason(objective, model)
  with pytest.raises(UserError, match=why):
    goal, made, batch = products.parts(objective, model)
    key = jax.random.key(0)
    jax.eval_shape(
      lambda: goal(made, made.init(key, batch), batch, key, train=False)
    )


@functools.cache
def drawn(objective, model):
  """Variables of a pair, boxed shapes beside them."""
  _, made, batch = products.parts(objective, model)
  boxed = tiny.shapes(made, batch)
  return boxed, tiny.fill(boxed)


@pytest.mark.parametrize(
  "objective, model",
  some([pair for pair in LEGAL if pair[0] not in BY_ROW], FEW[::3]),
)
def test_packed_is_each_document_in_a_row_of_its_own(objective, model):
  goal, made, packed = products.parts(objective, model)
  _, _, alone = products.parts(objective, model, products.ALONE)
  terms = set(goal.weights(packed)) - OF_ROWS.get(objective, set())
  for term in terms:
    assert goal.weights(packed)[term] == goal.weights(alone)[term]
  run = jax.jit(
    lambda variables, batch: (
      goal(made, variables, batch, jax.random.key(0), train=False).sums
    )
  )
  _, variables = drawn(objective, model)
  found, expected = run(variables, packed), run(variables, alone)
  for term in terms:
    value = expected[term]
    np.testing.assert_allclose(found[term], value, rtol=2e-4, err_msg=term)
    assert abs(value) > 0.1, term


@pytest.mark.parametrize("objective, model", some(LEGAL, RUN))
def test_sharded_is_unsharded(objective, model):
  goal, made, batch = products.parts(objective, model)
  boxed, variables = drawn(objective, model)
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  places = sharding.state_shardings(boxed, mesh)
  placed = jax.device_put(variables, places)

  def gradients(variables, batch, *where):
    rest = {k: v for k, v in variables.items() if k != "params"}
    run = jax.jit(make_value_and_grad(made, goal, 1, *where))
    (loss, _), found = run(variables["params"], rest, batch, jax.random.key(0))
    return loss, paths.flatten(jax.device_get(found))

  where = mesh, places["params"]
  loss, found = gradients(placed, sharding.shard_batch(batch, mesh), *where)
  expected_loss, expected = gradients(variables, batch)
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-4)
  for path, leaf in expected.items():
    scale = np.abs(leaf).max()
    np.testing.assert_allclose(
      found[path], leaf, rtol=1e-3, atol=1e-4 + 1e-4 * scale, err_msg=path
    )


class Crash(Exception):
  pass


def crash(moment):
  if moment.step == 3:
    raise Crash


def run_of(objective, model):
  goal, made, batch = products.parts(objective, model)
  return runs.make(
    4,
    model=made,
    objective=goal,
    task=products.task(batch),
    validation=products.task(batch),
    microbatches=1,
    checkpoint=plan.CheckpointSettings(every=2, keep=2),
    evaluation=plan.EvaluationSettings(every=2, batches=1),
  )


@pytest.mark.parametrize(
  "objective, model", some(FEW, [p for p in RUN if p[0] == "tacl"])
)
def test_a_crashed_run_goes_on_to_the_same_bits(objective, model, tmp_path):
  whole = loop.train(run_of(objective, model), tmp_path / "whole")
  with pytest.raises(Crash):
    loop.train(
      run_of(objective, model), tmp_path / "cut", hooks=[Every(1, crash)]
    )
  again = loop.train(run_of(objective, model), tmp_path / "cut")
  assert runs.outcome(again) == runs.outcome(whole)
  line = runs.lines(tmp_path / "whole")[-1]
  assert all(np.isfinite(v) for k, v in line.items() if "loss" in k)


@pytest.mark.parametrize(
  "objective, model, words",
  [
    (
      "causal_lm",
      "encoder",
      "The objective 'CausalLM' needs states that know nothing behind their "
      "token. The model 'Encoder' has none: take config.model.kind='decoder'.",
    ),
    (
      "continuous_l2",
      "encoder",
      "The objective 'ContinuousL2' needs states that know nothing behind "
      "their token. The model 'Encoder' has none: take config.model.kind="
      "'decoder'.",
    ),
  ],
)
def test_reasons_name_what_would_do(objective, model, words):
  with pytest.raises(UserError) as error:
    products.parts(objective, model)
  assert str(error.value) == words


def test_a_missing_head_is_told_before_data_are_made():
  goal, made, _ = products.parts("masked_lm", "encoder")
  others = objectives.build(dict(kind="masked_lm_next_sentence"))
  with pytest.raises(UserError) as error:
    abilities.check(others, made)
  assert str(error.value) == (
    "config.model.heads lacks the head that the objective reads, "
    "'next_sentence'. Known: masked_lm."
  )
