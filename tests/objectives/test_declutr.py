"""DeCLUTR by a loop in float64 and closed forms, on one device and eight."""

import functools

import jax
import numpy as np
import pytest

from jaxlm import errors, recipe, sharding
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from jaxlm.types import Task
from tests import tiny

ROWS, SPAN = 8, 7  # tokens of a span


class Fixed:
  """A model whose parameters are its outputs."""

  def apply(self, variables, batch, *, train=False, rngs=None):
    return {"embed": variables["params"]}


def loss(views, there=None, **fields):
  """The mean contrast of views [rows, k, width], as the step forms it."""
  there = np.ones(views.shape[:2], np.float32) if there is None else there
  part = objectives.build(dict(kind="declutr", masked_lm=0.0, **fields))
  batch = dict(view_weights=there[:, None])
  found = part(Fixed(), {"params": views}, batch, None, train=False)
  return found.sums["contrast"] / part.weights(batch)["contrast"], found


def slow(views, there, temperature):
  """Each anchor and each mean of positives against all others, float64."""
  pairs = []
  for row, counts in zip(np.asarray(views, np.float64), there):
    if counts[0] and counts[1:].any():
      near = [view for view, count in zip(row[1:], counts[1:]) if count]
      pairs.append((row[0], sum(near) / len(near)))
  cosine = lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b))
  found = []
  for i, pair in enumerate(pairs):
    for side in (0, 1):
      own = np.exp(cosine(pair[side], pair[1 - side]) / temperature)
      others = sum(
        np.exp(cosine(pair[side], view) / temperature)
        for j, other in enumerate(pairs)
        for view in other
        if j != i
      )
      found.append(-np.log(own / (own + others)))
  return np.mean(found)


def test_equal_vectors_cost_the_logarithm_of_the_candidates():
  found, _ = loss(np.ones((32, 3, 5), np.float32))
  np.testing.assert_allclose(found, np.log(63), rtol=1e-6)


def test_orthonormal_anchors():
  """ln(1 + (2 N - 2) e^(-1/t))."""
  views = np.repeat(np.eye(16, dtype=np.float32)[:, None], 3, axis=1)
  found, outcome = loss(views * 3.0, temperature=0.5)
  np.testing.assert_allclose(found, np.log1p(30 * np.exp(-2.0)), rtol=1e-6)
  np.testing.assert_allclose(outcome.metrics["positive_cosine"], (16, 16))


@pytest.mark.parametrize("positives", [1, 2, 4])
def test_the_loss_is_its_formula(positives):
  rng = np.random.default_rng(0)
  views = rng.standard_normal((6, 1 + positives, 4)).astype(np.float32)
  views[:, 1] *= 5.0  # vectors are averaged, not directions
  there = np.ones(views.shape[:2], np.float32)
  there[2] = 0.0  # fills up a batch
  if positives > 1:
    there[4, 2:] = 0.0
  found, _ = loss(views, there, temperature=0.3)
  np.testing.assert_allclose(found, slow(views, there, 0.3), rtol=1e-5)


@functools.cache
def case():
  """A model with dropout and rows of an anchor and two positives."""
  spec = tiny.model_spec(
    dropout=0.3,
    positions=dict(kind="learned", max_length=SPAN),
    heads=dict(
      embed=dict(kind="embed", pooling="mean"),
      masked_lm=dict(kind="masked_lm"),
    ),
  )
  model = assembly.build(spec)
  rng = np.random.default_rng(2)
  inputs = rng.integers(1, tiny.VOCAB, (ROWS, 3 * SPAN + 2)).astype(np.int32)
  segments = np.repeat([1, 2, 3, 0], [SPAN, SPAN, SPAN, 2])
  segments = np.tile(segments.astype(np.int32), (ROWS, 1))
  draw = lambda high: rng.integers(1, high, (ROWS, 2)).astype(np.int32)
  batch = dict(
    inputs=inputs * (segments > 0),
    segments=segments,
    positions=tiny.positions(segments),
    cls_positions=np.tile(np.arange(3, dtype=np.int32) * SPAN, (ROWS, 1)),
    view_weights=np.ones((ROWS, 1, 3), np.float32),
    predict_positions=draw(SPAN),
    predict_ids=draw(tiny.VOCAB),
    predict_weights=np.ones((ROWS, 2), np.float32),
  )
  return spec, model, tiny.shapes(model, batch), batch


def test_one_pass_serves_both_terms():
  _, model, shapes, batch = case()
  params = tiny.fill(shapes)
  part = objectives.build(dict(kind="declutr"))
  found = part(model, params, batch, None, train=False)
  alone = objectives.build(dict(kind="masked_lm"))
  said = alone(model, params, batch, None, train=False)
  np.testing.assert_array_equal(found.sums["masked_lm"], said.sums["masked_lm"])
  assert part.weights(batch) == {"contrast": ROWS, "masked_lm": 2 * ROWS}
  assert part.coefficients == {"masked_lm": 1.0}
  assert getattr(part, "passes", 1) == 1
  views = model.apply(params, batch)["embed"]
  wanted = slow(views, batch["view_weights"][:, 0], 0.05) * ROWS
  np.testing.assert_allclose(found.sums["contrast"], wanted, rtol=1e-4)


def test_negatives_are_those_of_all_devices():
  """Loss and gradients on 8 devices are those of one, dropout and all."""
  _, model, shapes, batch = case()
  params = tiny.fill(shapes)
  part = objectives.build(dict(kind="declutr", temperature=0.3))
  mesh = sharding.make_mesh(data=4, fsdp=2)
  placed = jax.device_put(params, sharding.state_shardings(shapes, mesh))

  def mean(params, batch):
    found = part(model, params, batch, jax.random.key(1), train=True).sums
    return found["contrast"] / ROWS + found["masked_lm"] / (2 * ROWS)

  run = jax.jit(jax.value_and_grad(mean))
  value, gradient = run(placed, sharding.shard_batch(batch, mesh))
  plain, expected = run(params, batch)
  np.testing.assert_allclose(value, plain, rtol=1e-5)
  close = functools.partial(np.testing.assert_allclose, atol=2e-5, rtol=1e-3)
  jax.tree.map(close, gradient, expected)


def test_positions_are_those_of_a_span():
  """A row may be longer than the table, a document may not."""
  spec, _, _, batch = case()
  shapes = jax.eval_shape(lambda: batch)
  task = Task("train", shapes, lambda *_: batch, ROWS, longest=SPAN)
  recipe.check_length(spec, task)
  for longest in (SPAN + 1, 0):  # 0: of a row
    with pytest.raises(errors.UserError, match="max_length 7"):
      recipe.check_length(spec, task._replace(longest=longest))


def test_without_a_masked_lm_nothing_is_to_be_predicted():
  part = objectives.build(dict(kind="declutr", masked_lm=0.0))
  assert part.features == ("cls_positions", "view_weights")
  assert not part.coefficients
