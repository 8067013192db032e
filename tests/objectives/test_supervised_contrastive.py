"""Cross-entropy and SupCon by their closed forms."""

import jax
import numpy as np
import pytest

from jaxlm import configuration, errors, run, sharding
from jaxlm.objectives import contrast, objectives
from tests import tiny


class Fixed:
  def apply(self, variables, batch, *, train=False, rngs=None):
    return variables["params"]


def batch_of(labels, real=None):
  labels = np.array(labels, np.int32)[:, None]
  weights = np.ones(labels.shape, np.float32)
  if real is not None:
    weights = np.array(real, np.float32)[:, None]
  return dict(
    labels=labels, label_weights=weights, cls_positions=0 * labels + 1
  )


def run_on(states, batch, logits=None, **fields):
  """(objective, outcome, the loss as the step forms it)."""
  rows = len(states)
  hidden = np.zeros((rows, 3, states.shape[1]), np.float32)
  hidden[:, 1] = states
  if logits is None:
    logits = np.zeros((rows, 1, 4), np.float32)
  part = objectives.build(dict(kind="supervised_contrastive", **fields))
  params = dict(hidden=hidden, classify=logits)
  found = part(Fixed(), {"params": params}, batch, None, train=False)
  weights = part.weights(batch)
  loss = sum(
    part.coefficients.get(term, 1.0) * total / max(float(weights[term]), 1.0)
    for term, total in found.sums.items()
  )
  return part, found, loss


def slow(states, labels, real, temperature):
  """The paper's equation, an anchor at a time: (sum, anchors)."""
  unit = np.asarray(states, np.float64)
  unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
  items = [i for i in range(len(labels)) if real[i]]
  total, anchors = 0.0, 0
  for i in items:
    others = [j for j in items if j != i]
    scores = {j: unit[i] @ unit[j] / temperature for j in others}
    own = [j for j in others if labels[j] == labels[i]]
    if own:
      norm = np.log(np.sum(np.exp(list(scores.values()))))
      total += np.mean([norm - scores[j] for j in own])
      anchors += 1
  return total, anchors


def test_equal_states_cost_the_logarithm_of_the_others():
  states = np.ones((4, 5), np.float32)
  _, found, _ = run_on(states, batch_of([0, 0, 1, 1]))
  np.testing.assert_allclose(found.sums["contrast"] / 4, np.log(3), rtol=1e-6)


def test_orthogonal_classes():
  """ln(1 + 2 e^(-10/3)) at a temperature of 0.3."""
  states = np.eye(2, 4, dtype=np.float32)[[0, 0, 1, 1]] * 7.0
  _, found, _ = run_on(states, batch_of([0, 0, 1, 1]), temperature=0.3)
  wanted = np.log1p(2 * np.exp(-10 / 3))
  np.testing.assert_allclose(found.sums["contrast"] / 4, wanted, rtol=1e-5)


def test_the_loss_is_the_papers_equation():
  rng = np.random.default_rng(0)
  labels, real = [0, 1, 0, 2, 1, 0, 1], [1, 1, 1, 1, 1, 1, 0]
  states = rng.standard_normal((7, 5)).astype(np.float32)
  logits = rng.standard_normal((7, 1, 3)).astype(np.float32)
  batch = batch_of(labels, real)
  part, found, loss = run_on(states, batch, logits, share=0.7, temperature=0.4)
  total, anchors = slow(states, labels, real, 0.4)
  # The only one of class 2 has no positive.
  assert anchors == 5 == part.weights(batch)["contrast"]
  np.testing.assert_allclose(found.sums["contrast"], total, rtol=1e-5)
  plain = objectives.build(dict(kind="classification"))
  params = dict(classify=logits)
  alone = plain(Fixed(), {"params": params}, batch, None, train=False)
  entropy = alone.sums["classification"]
  np.testing.assert_array_equal(found.sums["classification"], entropy)
  np.testing.assert_allclose(
    loss, 0.3 * entropy / 6 + 0.7 * total / 5, rtol=1e-5
  )
  # Without a share of the contrast it is cross-entropy, bit for bit.
  _, none, loss = run_on(states, batch, logits, share=0.0)
  assert set(none.sums) == {"classification"} and loss == entropy / 6


def test_items_of_all_devices_count():
  rng = np.random.default_rng(1)
  states = rng.standard_normal((8, 4)).astype(np.float32)
  labels = np.array([0, 1, 2, 3, 0, 1, 2, 3])
  real = np.ones(8, np.float32)
  rows = sharding.shard_batch(
    dict(states=states, labels=labels, real=real), sharding.make_mesh(data=8)
  )
  loss = lambda x, rows: contrast.of_classes(
    x, rows["labels"], rows["real"], 0.5
  ).sum()
  value, gradient = jax.jit(jax.value_and_grad(loss))(rows["states"], rows)
  wanted, anchors = slow(states, labels, real, 0.5)
  assert anchors == 8  # each with its only positive on another device
  np.testing.assert_allclose(value, wanted, rtol=1e-5)
  assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.parametrize(
  "fields, words",
  [
    (dict(share=1.5), "share is 1.5"),
    (dict(temperature=0.0), "temperature is 0.0"),
  ],
)
def test_wrong_settings_are_told(fields, words):
  with pytest.raises(errors.UserError, match=words):
    objectives.build(dict(kind="supervised_contrastive", **fields))


@pytest.mark.slow
def test_the_config_trains(tmp_path):
  """From nothing: words tell the class."""
  rows = ["text\tlabel"]
  for i in range(200):
    word = ("red", "blue", "green")[i % 3 if i % 10 else 0]
    rows.append(f"the {word} bird number {i}\t{word}")
  (tmp_path / "a.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
  config = configuration.complete(
    configuration.load("supervised_contrastive:classification")
  )
  model = tiny.config_model("bert") | dict(heads=config["model"]["heads"])
  config |= dict(
    steps=60,
    model=model,
    tokenizer=dict(kind="wordpiece", vocab_size=200),
    clip_norm=1.0,
  )
  config["data"] |= dict(files=str(tmp_path / "a.tsv"), length=16)
  config["data"] |= dict(validation_files="", validation_share=0.2)
  config["optimizer"] |= dict(learning_rate=5e-3)
  config["log"] |= dict(progress=False, tensorboard=False)
  told = []
  trained = run.train(config, tmp_path / "run", report=told.append)
  assert trained.metrics["accuracy"] > 0.9
  assert "loss/contrast" in trained.metrics
