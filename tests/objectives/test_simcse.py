"""SimCSE by its closed forms, on one device and on eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import errors, sharding
from jaxlm.models import assembly
from jaxlm.objectives import contrast, objectives
from tests import tiny

ROWS, LENGTH = 8, 24


class Fixed:
  """A model whose parameters are its outputs."""

  def apply(self, variables, batch, *, train=False, rngs=None):
    return {"embed": variables["params"]}


def loss(views, there=None, **fields):
  """The mean loss of views [rows, k, width], as the step forms it."""
  there = np.ones(views.shape[:2], np.float32) if there is None else there
  part = objectives.build(dict(kind="simcse", **fields))
  batch = dict(view_weights=there[:, None])
  found = part(Fixed(), {"params": views}, batch, None, train=False)
  return found.sums["contrast"] / part.weights(batch)["contrast"], found


def slow(views, there, temperature, bonus):
  """Equation 5 of the paper, a row at a time, in float64."""
  unit = np.asarray(views, np.float64)
  unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
  found = []
  for i in range(len(unit)):
    if not there[i, 1]:
      continue
    total = 0.0
    for j in range(len(unit)):
      for k in range(1, unit.shape[1]):
        score = unit[i, 0] @ unit[j, k] / temperature
        score += bonus * (k > 1 and i == j)
        total += there[j, k] * np.exp(score)
    found.append(np.log(total) - unit[i, 0] @ unit[i, 1] / temperature)
  return np.mean(found)


@pytest.mark.parametrize("kinds, value", [(2, np.log(64)), (3, np.log(128))])
def test_equal_embeddings_cost_the_logarithm_of_the_candidates(kinds, value):
  found, _ = loss(np.ones((64, kinds, 5), np.float32))
  np.testing.assert_allclose(found, value, rtol=1e-6)


def test_orthonormal_embeddings():
  """ln(1 + (N - 1) e^(-1/t))."""
  views = np.repeat(np.eye(16, dtype=np.float32)[:, None], 2, axis=1)
  found, outcome = loss(views * 3.0, temperature=0.5)
  np.testing.assert_allclose(found, np.log1p(15 * np.exp(-2.0)), rtol=1e-6)
  assert outcome.metrics["found"] == (16, 16)
  np.testing.assert_allclose(outcome.metrics["positive_cosine"][0], 16.0)


@pytest.mark.parametrize("kinds, bonus", [(2, 0.0), (3, 0.0), (3, 1.5)])
def test_the_loss_is_the_papers_equation(kinds, bonus):
  rng = np.random.default_rng(0)
  views = rng.standard_normal((6, kinds, 4)).astype(np.float32)
  there = np.ones((6, kinds), np.float32)
  there[2] = 0.0  # fills up a batch
  there[4, 2:] = 0.0  # has no hard negative
  fields = dict(temperature=0.3, hard_negative_weight=bonus)
  found, _ = loss(views, there, **fields)
  np.testing.assert_allclose(found, slow(views, there, 0.3, bonus), rtol=1e-5)


def test_only_directions_count():
  rng = np.random.default_rng(1)
  views = rng.standard_normal((5, 3, 4)).astype(np.float32)
  sizes = rng.uniform(0.5, 4.0, (5, 3, 1)).astype(np.float32)
  run = jax.value_and_grad(lambda x: loss(x, temperature=0.2)[0])
  value, gradient = run(views)
  np.testing.assert_allclose(run(views * sizes)[0], value, rtol=1e-5)
  along = np.sum(np.asarray(gradient) * views, axis=-1)
  np.testing.assert_allclose(along, 0.0, atol=1e-6)


@functools.cache
def case(masked=0.0):
  """A model with dropout, rows of two copies of a text, and the objective."""
  spec = tiny.model_spec(
    dropout=0.3,
    heads=dict(
      embed=dict(kind="embed", pooling="mean", projection="kept"),
      masked_lm=dict(kind="masked_lm"),
    ),
  )
  model = assembly.build(spec)
  rng = np.random.default_rng(2)
  texts = rng.integers(1, tiny.VOCAB, (ROWS, 9)).astype(np.int32)
  pad = np.zeros((ROWS, LENGTH - 18), np.int32)
  segments = np.concatenate([0 * texts + 1, 0 * texts + 2, pad], 1)
  inputs = np.concatenate([texts, texts, pad], 1)
  draw = lambda high: rng.integers(1, high, (ROWS, 3)).astype(np.int32)
  batch = dict(
    inputs=inputs,
    segments=segments,
    positions=tiny.positions(segments),
    cls_positions=np.tile(np.array([0, 9], np.int32), (ROWS, 1)),
    view_weights=np.ones((ROWS, 1, 2), np.float32),
    corrupted_inputs=np.where(inputs % 3, inputs, 1),
    predict_positions=draw(9),
    predict_ids=draw(tiny.VOCAB),
    predict_weights=np.ones((ROWS, 3), np.float32),
  )
  shapes = tiny.shapes(model, batch)
  part = objectives.build(dict(kind="simcse", masked_lm=masked))
  return model, shapes, batch, part


def test_copies_of_a_text_differ_by_dropout_alone():
  model, shapes, batch, part = case()
  params = tiny.fill(shapes)

  def cosine(train):
    found = part(model, params, batch, jax.random.key(0), train=train)
    total, count = found.metrics["positive_cosine"]
    return total / count

  run = jax.jit(cosine, static_argnums=0)
  np.testing.assert_allclose(run(False), 1.0, atol=1e-6)
  assert run(True) < 0.99


def test_negatives_are_those_of_all_devices():
  """Loss and gradients on 8 devices are those of one, dropout and all."""
  model, shapes, batch, part = case()
  params = tiny.fill(shapes)
  mesh = sharding.make_mesh(data=4, fsdp=2)
  placed = jax.device_put(params, sharding.state_shardings(shapes, mesh))

  def mean(params, batch):
    found = part(model, params, batch, jax.random.key(1), train=True)
    return found.sums["contrast"] / ROWS

  run = jax.jit(jax.value_and_grad(mean))
  value, gradient = run(placed, sharding.shard_batch(batch, mesh))
  plain, expected = run(params, batch)
  np.testing.assert_allclose(value, plain, rtol=1e-5)
  close = functools.partial(np.testing.assert_allclose, atol=2e-5, rtol=1e-3)
  jax.tree.map(close, gradient, expected)
  # A device's own rows alone would give another loss.
  half = {key: value[: ROWS // 2] for key, value in batch.items()}
  assert abs(float(run(params, half)[0]) * 2 - float(plain)) > 0.05


def test_a_masked_view_adds_its_masked_lm():
  model, shapes, batch, part = case(masked=0.1)
  params = tiny.fill(shapes)
  assert part.passes == 2 and part.coefficients == {"masked_lm": 0.1}
  assert set(part.weights(batch)) == {"contrast", "masked_lm"}
  assert "corrupted_inputs" in part.features
  found = part(model, params, batch, None, train=False)
  alone = objectives.build(dict(kind="masked_lm"))
  masked = {**batch, "inputs": batch["corrupted_inputs"]}
  wanted = alone(model, params, masked, None, train=False).sums["masked_lm"]
  np.testing.assert_allclose(found.sums["masked_lm"], wanted, rtol=1e-6)
  trained = jax.eval_shape(
    lambda key: part(model, params, batch, key, train=True).sums,
    jax.random.key(0),
  )
  assert set(trained) == set(found.sums)
  plain = case()[3](model, params, batch, None, train=False)
  np.testing.assert_allclose(
    found.sums["contrast"], plain.sums["contrast"], rtol=1e-6
  )


def test_a_row_of_zeros_has_a_gradient():
  run = jax.grad(
    lambda x: jnp.sum(contrast.candidates(x, x[:, None], _one, 1)[0])
  )
  assert np.isfinite(run(jnp.zeros((2, 3)))).all()


_one = np.ones((2, 1), np.float32)


@pytest.mark.parametrize("kind", ["clear", "declutr", "simcse"])
@pytest.mark.parametrize(
  "fields, words",
  [
    (dict(temperature=0.0), "temperature is 0.0"),
    (dict(masked_lm=-0.1), "masked_lm is -0.1"),
  ],
)
def test_wrong_settings_of_any_contrast_are_told(kind, fields, words):
  with pytest.raises(errors.UserError, match=words):
    objectives.build(dict(kind=kind, **fields))


def test_clear_is_nt_xent_beside_masked_lm():
  model, shapes, batch, _ = case()
  params = tiny.fill(shapes)
  part = objectives.build(dict(kind="clear", temperature=0.2))
  texts = dict(batch, inputs=np.flip(batch["inputs"], 0).copy())
  data = dict(
    batch,
    corrupted_inputs=texts["inputs"],
    corrupted_segments=batch["segments"],
    corrupted_positions=batch["positions"],
  )
  found = part(model, params, data, None, train=False)
  views = model.apply(params, data)["embed"]
  real = np.ones(ROWS, np.float32)
  wanted = contrast.nt_xent(views[:, 0], views[:, 1], real, 0.2)
  np.testing.assert_allclose(found.sums["contrast"], wanted, rtol=1e-6)
  alone = objectives.build(dict(kind="masked_lm"))
  said = alone(model, params, texts, None, train=False).sums["masked_lm"]
  np.testing.assert_allclose(found.sums["masked_lm"], said, rtol=1e-6)
  assert part.passes == 2 and part.coefficients == {"masked_lm": 1.0}
  with pytest.raises(errors.UserError, match="hard_negative_weight"):
    objectives.build(dict(kind="clear", hard_negative_weight=1.0))
