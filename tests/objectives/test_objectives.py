"""Closed forms of the objectives, over a model that returns given logits."""

import functools
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.objectives import objectives
from tests import tiny

# One size for all, so that the small programs are compiled once.
VOCAB = CLASSES = 7
KEY = jax.random.key(0)


class Fixed:
  """A model whose parameters are its outputs."""

  def apply(self, variables, batch, *, train=False, rngs=None):
    assert ("dropout" in rngs) == train
    return variables["params"]


def batch(seed=0) -> dict:
  rng = np.random.default_rng(seed)
  rows, length, predictions, sentences = 2, 4, 4, 4
  draw = lambda high, *shape: rng.integers(0, high, shape).astype(np.int32)
  weights = lambda *shape: rng.integers(0, 2, shape).astype(np.float32)
  return dict(
    predict_positions=draw(length, rows, predictions),
    predict_ids=draw(VOCAB, rows, predictions),
    predict_weights=weights(rows, predictions),
    targets=draw(VOCAB, rows, length),
    weights=weights(rows, length),
    decoder_inputs=draw(VOCAB, rows, length),
    cls_positions=draw(length, rows, sentences),
    labels=draw(CLASSES, rows, sentences),
    label_weights=weights(rows, sentences),
    tags=draw(CLASSES, rows, length),
    tag_weights=weights(rows, length),
  )


# kind -> {head: (outputs, labels, weights, term)}
READS = {
  "masked_lm": {
    "masked_lm": (VOCAB, "predict_ids", "predict_weights", "masked_lm")
  },
  "causal_lm": {"causal_lm": (VOCAB, "targets", "weights", "causal_lm")},
  "seq2seq": {"seq2seq_lm": (VOCAB, "targets", "weights", "seq2seq")},
  "classification": {
    "classify": (CLASSES, "labels", "label_weights", "classification")
  },
  "tagging": {"tag": (CLASSES, "tags", "tag_weights", "tagging")},
  "masked_lm_next_sentence": {
    "masked_lm": (VOCAB, "predict_ids", "predict_weights", "masked_lm"),
    "next_sentence": (CLASSES, "labels", "label_weights", "next_sentence"),
  },
}
# Those that do more than apply a model once have files of their own.
APART = {
  "attention_distillation": "models/test_conversion.py",
  "bidirectional_lm": "models/test_bidirectional_lm.py",
  "continuous_cosine": "objectives/test_continuous.py",
  "continuous_l2": "objectives/test_continuous.py",
  "continuous_margin": "objectives/test_continuous.py",
  "continuous_vmf": "objectives/test_continuous.py",
  "clear": "objectives/test_simcse.py",
  "declutr": "objectives/test_declutr.py",
  "e2s2": "objectives/test_e2s2.py",
  "masked_lm_span_boundary": "layers/test_span_boundary.py",
  "replaced_token_detection": "objectives/test_replaced_token_detection.py",
  "simcse": "objectives/test_simcse.py",
  "tacl": "objectives/test_tacl.py",
  "supervised_contrastive": "objectives/test_supervised_contrastive.py",
}
SOFTMAX = pytest.mark.parametrize("kind", READS)
EVERY = pytest.mark.parametrize(
  "kind", [kind for kind in objectives.kinds() if kind not in APART]
)


def outputs(kind, scale=1.0, seed=1) -> dict:
  rng = np.random.default_rng(seed)
  data = batch()
  return {
    head: jnp.asarray(
      scale * rng.standard_normal((*data[labels].shape, size)), jnp.float32
    )
    for head, (size, labels, _, _) in heads_of(kind).items()
  }


def heads_of(kind):
  return READS.get(kind) or {
    "regress": (1, "labels", "label_weights", "regression")
  }


def run(kind, params, data, train=False, **fields):
  objective = objectives.build({"kind": kind, **fields})
  return objective, objective(
    Fixed(), {"params": params}, data, KEY, train=train
  )


def loss(kind, params, data, **fields):
  """The loss as the train step forms it (docs/design.md)."""
  objective, outcome = run(kind, params, data, **fields)
  weights = objective.weights(data)
  assert set(weights) == set(outcome.sums)
  return sum(
    objective.coefficients.get(term, 1.0)
    * total
    / jnp.maximum(weights[term], 1.0)
    for term, total in outcome.sums.items()
  )


def test_every_objective_is_tested_here():
  assert set(objectives.kinds()) == {*READS, *APART, "regression"}
  folder = pathlib.Path(__file__).parents[1]
  for kind, file in APART.items():
    text = (folder / file).read_text()
    assert re.search(f'"?kind"?[=:] ?"{kind}"', text), file


@SOFTMAX
def test_uniform_logits_cost_the_logarithm_of_their_number(kind):
  data = batch()
  value = loss(kind, outputs(kind, scale=0.0), data)
  expected = sum(math.log(size) for size, *_ in READS[kind].values())
  np.testing.assert_allclose(value, expected, rtol=1e-6)


@SOFTMAX
def test_the_loss_is_the_mean_log_probability(kind):
  data, params = batch(), outputs(kind, scale=3.0)
  expected = 0.0
  for head, (_, labels, weights, _) in READS[kind].items():
    logits = np.asarray(params[head], np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(logs, data[labels][..., None], -1)[..., 0]
    expected -= (chosen * data[weights]).sum() / data[weights].sum()
  np.testing.assert_allclose(loss(kind, params, data), expected, rtol=1e-5)


@SOFTMAX
def test_the_gradient_is_probabilities_less_labels(kind):
  data, params = batch(), outputs(kind, scale=2.0)
  gradient = jax.grad(lambda p: loss(kind, p, data))(params)
  for head, (size, labels, weights, _) in READS[kind].items():
    share = np.asarray(jax.nn.softmax(params[head]))
    expected = (share - np.eye(size)[data[labels]]) * data[weights][..., None]
    np.testing.assert_allclose(
      gradient[head], expected / data[weights].sum(), atol=1e-6
    )


@EVERY
def test_nothing_weighed_costs_nothing_and_moves_nothing(kind):
  data = batch()
  for _, _, weights, _ in heads_of(kind).values():
    data[weights] = np.zeros_like(data[weights])
  value, gradient = jax.value_and_grad(lambda p: loss(kind, p, data))(
    outputs(kind)
  )
  assert value == 0.0
  for leaf in jax.tree.leaves(gradient):
    assert (np.asarray(leaf) == 0.0).all()


@EVERY
def test_huge_logits_stay_finite(kind):
  value, gradient = jax.value_and_grad(lambda p: loss(kind, p, batch()))(
    outputs(kind, scale=1e4)
  )
  assert np.isfinite(value)
  assert all(
    np.isfinite(np.asarray(g)).all() for g in jax.tree.leaves(gradient)
  )


def test_regression_is_the_mean_squared_error():
  data, params = batch(), outputs("regression")
  data["labels"] = data["labels"].astype(np.float32) / 2
  errors = np.asarray(params["regress"])[..., 0] - data["labels"]
  expected = (errors**2 * data["label_weights"]).sum()
  expected /= data["label_weights"].sum()
  np.testing.assert_allclose(
    loss("regression", params, data), expected, rtol=1e-6
  )


def test_next_sentence_has_a_coefficient():
  data, params = batch(), outputs("masked_lm_next_sentence")
  part = functools.partial(loss, "masked_lm_next_sentence", params, data)
  tokens = loss("masked_lm", params, data)
  pairs = loss("classification", params, data, head="next_sentence")
  np.testing.assert_allclose(part(), tokens + pairs, rtol=1e-6)
  np.testing.assert_allclose(
    part(next_sentence=0.25), tokens + 0.25 * pairs, rtol=1e-6
  )


@SOFTMAX
def test_metrics_are_sums_of_right_answers(kind):
  data, params = batch(), outputs(kind)
  _, outcome = run(kind, params, data)
  for head, (_, labels, weights, _) in READS[kind].items():
    name = "accuracy"
    if head == "next_sentence":
      name = "next_sentence_accuracy"
    right, weight = outcome.metrics[name]
    best = np.asarray(params[head]).argmax(-1)
    assert right == ((best == data[labels]) * data[weights]).sum()
    assert weight == data[weights].sum()


@EVERY
def test_denominators_are_a_function_of_data_alone(kind):
  objective, _ = run(kind, outputs(kind), batch())
  for _, _, weights, term in heads_of(kind).values():
    assert objective.weights(batch())[term] == batch()[weights].sum()


@EVERY
def test_sums_of_halves_are_the_sum_of_the_whole(kind):
  """So accumulation over microbatches is exact."""
  data, params = batch(), outputs(kind)
  part = lambda tree, row: jax.tree.map(lambda a: a[row : row + 1], tree)
  whole = run(kind, params, data)[1].sums
  halves = [run(kind, part(params, i), part(data, i))[1].sums for i in (0, 1)]
  for term, total in whole.items():
    np.testing.assert_allclose(
      halves[0][term] + halves[1][term], total, rtol=1e-5
    )


@EVERY
def test_training_hands_the_model_a_key(kind):
  run(kind, outputs(kind), batch(), train=True)  # Fixed asserts it


@EVERY
def test_features_are_what_is_read(kind):
  """Data that hold only the told features are enough."""
  objective = objectives.build({"kind": kind})
  data = {name: batch()[name] for name in objective.features}
  run(kind, outputs(kind), data)


@EVERY
def test_a_missing_head_is_told(kind):
  head = next(iter(heads_of(kind)))
  with pytest.raises(UserError) as error:
    run(kind, {"hidden": None, head + "s": None}, batch())
  assert str(error.value) == (
    "config.model.heads lacks the head that the objective reads, "
    f"'{head}'. Did you mean '{head}s'? Known: {head}s."
  )


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_head_can_be_named(kind):
  head = next(iter(heads_of(kind)))
  params = {"mine": outputs(kind)[head]}
  _, outcome = run(kind, params, batch(), head="mine")
  _, usual = run(kind, outputs(kind), batch())
  jax.tree.map(np.testing.assert_array_equal, outcome.sums, usual.sums)


def test_masked_lm_over_few_places_equals_masked_lm_over_all():
  """Sparse predictions give the loss of dense logits, to 1e-6."""
  spec = tiny.model_spec(heads=dict(masked_lm=dict(kind="masked_lm")))
  model, params = tiny.build(spec)
  sparse = tiny.batch()
  rng = np.random.default_rng(0)
  places = sparse["predict_positions"]
  sparse["predict_ids"] = rng.integers(0, tiny.VOCAB, places.shape)
  sparse["predict_weights"] = np.array([[1, 1, 0], [1, 0, 1]], np.float32)
  dense = {k: v for k, v in sparse.items() if k != "predict_positions"}
  rows = np.arange(tiny.BATCH)[:, None]
  for name in ("predict_ids", "predict_weights"):
    full = np.zeros((tiny.BATCH, tiny.LENGTH), sparse[name].dtype)
    full[rows, places] = sparse[name]
    dense[name] = full
  objective = objectives.build({"kind": "masked_lm"})
  few, all_ = (
    objective(model, params, data, KEY, train=False) for data in (sparse, dense)
  )
  np.testing.assert_allclose(
    few.sums["masked_lm"], all_.sums["masked_lm"], rtol=1e-6
  )
  assert few.metrics["accuracy"] == all_.metrics["accuracy"]
  for data in (sparse, dense):
    assert objective.weights(data)["masked_lm"] == 4.0
