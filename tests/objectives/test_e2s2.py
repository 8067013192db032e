"""E2S2: three losses of two views, and the contrast by its closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import configuration, errors, recipe, sharding, types
from jaxlm.models import assembly
from jaxlm.objectives import contrast, objectives
from tests import tiny

SOURCE, TARGET, ROWS = 8, 6, 3


@functools.cache
def case():
  spec = tiny.config_model("e2s2")
  spec["towers"] = {
    name: tower | dict(depth=1, stack=dict(kind="sequential"))
    for name, tower in spec["towers"].items()
  }
  model = assembly.build(spec, vocab_size=tiny.VOCAB)
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.integers(1, tiny.VOCAB, shape).astype(np.int32)
  real = np.ones((ROWS, SOURCE), np.int32)
  real[0, 5:] = 0
  weights = np.ones((ROWS, TARGET), np.float32)
  weights[1, 4:] = 0
  inputs = draw(ROWS, SOURCE) * real
  tags = rng.integers(0, 3, inputs.shape).astype(np.int32) * real
  batch = {
    "inputs": inputs,
    "segments": real,
    "corrupted_inputs": np.where(tags, draw(ROWS, SOURCE), inputs),
    "tags": tags,
    "tag_weights": real.astype(np.float32),
    "decoder_inputs": draw(ROWS, TARGET),
    "decoder_segments": weights.astype(np.int32),
    "targets": draw(ROWS, TARGET),
    "weights": weights,
  }
  return model, tiny.fill(tiny.shapes(model, batch)), batch


class Recorder:
  """A model that keeps its outputs."""

  def __init__(self, model):
    self.model, self.seen = model, []

  def apply(self, variables, batch, **options):
    self.seen.append(self.model.apply(variables, batch, **options))
    return self.seen[-1]


@functools.cache
def compiled():
  """(params, batch) -> the outcome and the outputs of both views."""
  part = objectives.build({"kind": "e2s2", "temperature": 0.7})

  def run(params, batch):
    model = Recorder(case()[0])
    found = part(model, params, batch, jax.random.key(0), train=False)
    return found, model.seen

  return part, jax.jit(run)


def outcome(batch):
  part, run = compiled()
  return part, *tiny.host(run(case()[1], batch))


def nll(logits, labels, weights):
  logits = np.asarray(logits, np.float64)
  logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  chosen = np.take_along_axis(logits, labels[..., None], -1)[..., 0]
  return -(chosen * weights).sum()


def slow_contrast(first, second, temperature):
  """Equation of NT-Xent, a row at a time."""
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  views = np.concatenate([unit(first), unit(second)]).astype(np.float64)
  total, rows = 0.0, len(first)
  for i in range(2 * rows):
    scores = {j: views[i] @ views[j] / temperature for j in range(2 * rows)}
    own = scores.pop(i)
    del own
    total += np.log(np.exp(list(scores.values())).sum())
    total -= scores[(i + rows) % (2 * rows)]
  return total / 2


def test_every_term_is_its_formula():
  _, _, batch = case()
  part, found, (second, first) = outcome(batch)
  target = (batch["targets"], batch["weights"])
  marks = (batch["tags"], batch["tag_weights"])
  means = [
    (np.asarray(o["encoder_hidden"]) * marks[1][..., None]).sum(1)
    / marks[1].sum(1, keepdims=True)
    for o in (first, second)
  ]
  wanted = dict(
    seq2seq=nll(first["seq2seq_lm"], *target),
    corrupted=nll(second["seq2seq_lm"], *target),
    detection=nll(second["corruption"], *marks),
    contrast=slow_contrast(*means, 0.7),
  )
  assert found.sums.keys() == wanted.keys() == part.coefficients.keys()
  for name, value in wanted.items():
    np.testing.assert_allclose(found.sums[name], value, rtol=2e-5)
  weights = tiny.host(part.weights(batch))
  assert weights == dict(seq2seq=16, corrupted=16, detection=21, contrast=3)
  assert part.coefficients == dict(
    seq2seq=0.5, corrupted=0.5, detection=0.05, contrast=0.05
  )
  right = (np.asarray(second["corruption"]).argmax(-1) == marks[0]) * marks[1]
  noise = (marks[0] > 0) * marks[1]
  found = {name: float(a) / float(b) for name, (a, b) in found.metrics.items()}
  assert found["detection_accuracy"] == pytest.approx(right.sum() / 21)
  assert found["detection_majority"] == pytest.approx(1 - noise.sum() / 21)
  recall = (right * noise).sum() / noise.sum()
  assert found["detection_recall"] == pytest.approx(recall)


def test_one_pass_where_the_first_view_is_not_wanted():
  model, params, batch = case()
  part = objectives.build(dict(kind="e2s2", infilled=0.0, contrast=0.0))
  recorder = Recorder(model)
  run = lambda: part(recorder, params, batch, jax.random.key(0), train=False)
  found = jax.eval_shape(run)
  assert part.passes == len(recorder.seen) == 1
  assert set(found.sums) == {"corrupted", "detection"}
  assert part.weights(batch).keys() == found.sums.keys()


def test_what_stands_at_padding_is_nobodys():
  _, _, batch = case()
  _, found, _ = outcome(batch)
  moved = dict(batch)
  for key in ("inputs", "corrupted_inputs"):
    moved[key] = np.where(batch["segments"], batch[key], 9)
  moved["targets"] = np.where(batch["weights"], batch["targets"], 9)
  _, other, _ = outcome(moved)
  for name, value in found.sums.items():
    np.testing.assert_allclose(value, other.sums[name], rtol=1e-5)


def test_contrast_of_orthonormal_pairs_on_eight_devices():
  """ln(1 + 6 / e) of four pairs at temperature 1, each on its own device.

  Rows that hold no text neither count nor are they negatives.
  """
  views = np.zeros((8, 8), np.float32)
  views[::2] = np.eye(4, 8) * np.arange(1.0, 5.0)[:, None]  # cosines alone
  real = (np.arange(8) % 2 == 0).astype(np.float32)
  rows = sharding.shard_batch(
    dict(views=views, real=real), sharding.make_mesh(data=8)
  )
  run = jax.value_and_grad(lambda x: contrast.nt_xent(x, x, rows["real"]))
  value, gradient = jax.jit(run)(rows["views"])
  assert float(value) == pytest.approx(4 * 1.16542, abs=4e-5)
  assert np.isfinite(gradient).all() and not np.asarray(gradient)[1::2].any()


@pytest.mark.slow
def test_a_step_that_runs_the_model_twice_costs_twice():
  config = configuration.complete(configuration.load("e2s2:tiny"))
  spec = recipe.model_spec(config, {"vocab_size": 512})
  shape = lambda *tail: jax.ShapeDtypeStruct((8, *tail), np.float32)
  _, _, batch = case()
  data = {k: shape(*np.shape(v)[1:]) for k, v in batch.items()}
  task = types.Task("train", data, lambda *_: {}, 64)

  def cost(**fields):
    objective = {"kind": "e2s2", **fields}
    made = recipe.build(
      {**config, "objective": objective},
      spec=spec,
      train=task,
      validation=None,
      facts={},
    )
    return made.flops_per_step

  assert cost() == 2 * cost(infilled=0.0, contrast=0.0) > 0


def largest(tree, term):
  return max(float(np.abs(leaf[term]).max()) for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
def test_gradients_reach_the_encoder_by_each_term_and_pass_no_padding():
  model, params, batch = case()

  def loss(params, name):
    part = objectives.build(dict(kind="e2s2"))
    found = part(model, params, batch, jax.random.key(0), train=False)
    return found.sums[name]

  grads = jax.jit(
    lambda params: jax.jacrev(
      lambda p: jnp.stack([loss(p, n) for n in ("detection", "contrast")])
    )(params)
  )(params)["params"]
  for term in range(2):
    assert largest(grads["encoder"], term) > 1e-4
    assert largest(grads["decoder"], term) == 0.0
  assert not np.abs(grads["heads_corruption"]["output"]["kernel"][1]).any()


@pytest.mark.parametrize(
  "fields, words",
  [
    (dict(contrast=-1.0), "contrast is -1.0"),
    (dict(temperature=0.0), "temperature is 0.0"),
  ],
)
def test_wrong_settings_are_told(fields, words):
  with pytest.raises(errors.UserError, match=words):
    objectives.build(dict(kind="e2s2", **fields))


def test_heads_on_the_encoder_stay_out_of_exports_and_names_apart():
  model, params, _ = case()
  spec = tiny.config_model("e2s2")
  left, kept = type(model).exported(spec, params["params"])
  assert "encoder_heads" not in left and "heads_corruption" not in kept
  assert set(params["params"]) - set(kept) == {"heads_corruption"}
  plain = tiny.config_model("bart")
  assert left == plain
  twice = spec | dict(
    encoder_heads=dict(seq2seq_lm=dict(kind="tag", classes=3))
  )
  with pytest.raises(errors.UserError, match="both have 'seq2seq_lm'"):
    assembly.build(twice, vocab_size=tiny.VOCAB)
