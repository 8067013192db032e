import math

import numpy as np
import pytest

from jaxlm import errors
from jaxlm.evaluation import predict
from tests.evaluation import toys


def _log_softmax(x):
  x = np.asarray(x, np.float64)
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _causal_rows(rng, count=7, length=6):
  inputs = rng.integers(1, 16, (count, length)).astype(np.int32)
  weights = (rng.random((count, length)) < 0.8).astype(np.float32)
  targets = rng.integers(0, 16, (count, length)).astype(np.int32)
  return dict(
    inputs=inputs,
    segments=np.ones_like(inputs),
    targets=targets,
    weights=weights,
  )


def test_perplexity_counts_every_row_once():
  loaded = toys.causal()
  rows = _causal_rows(np.random.default_rng(0))
  outputs = toys.jitted(loaded.model, "causal_lm")(loaded.variables, rows)
  logs = _log_softmax(outputs)
  chosen = np.take_along_axis(logs, rows["targets"][..., None], -1)[..., 0]
  weights, right = rows["weights"], logs.argmax(-1) == rows["targets"]
  loss = -(chosen * weights).sum() / weights.sum()
  for size in (3, 10):
    task = toys.task_of(rows, size)
    found = predict.evaluate(loaded, task, "causal_lm")
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    share = (right * weights).sum() / weights.sum()
    assert found["accuracy"] == pytest.approx(share)
    assert found["count"] == weights.sum()
  first = predict.evaluate(
    loaded, toys.task_of(rows, 3), "causal_lm", batches=1
  )
  assert first["count"] == weights[:3].sum()


def test_masked_lm_reads_the_predictions_alone():
  loaded = toys.masked()
  rng = np.random.default_rng(1)
  inputs = rng.integers(5, 20, (5, 8)).astype(np.int32)
  rows = dict(
    inputs=inputs,
    segments=np.ones_like(inputs),
    predict_positions=rng.integers(0, 8, (5, 2)).astype(np.int32),
    predict_ids=rng.integers(5, 20, (5, 2)).astype(np.int32),
    predict_weights=np.array([[1, 1], [1, 0], [1, 1], [0, 0], [1, 1]], "f4"),
  )
  logs = _log_softmax(
    toys.jitted(loaded.model, "masked_lm")(loaded.variables, rows)
  )
  chosen = np.take_along_axis(logs, rows["predict_ids"][..., None], -1)[..., 0]
  loss = -(chosen * rows["predict_weights"]).sum() / 7
  found = predict.evaluate(loaded, toys.task_of(rows, 2), "masked_lm")
  assert found["loss"] == pytest.approx(loss, rel=1e-5)
  assert found["count"] == 7


def test_the_seed_reaches_the_task():
  loaded = toys.causal()
  rows = _causal_rows(np.random.default_rng(0))
  task = toys.task_of(rows, 7)
  seen = []

  def batch_at(seed, step, shard=(0, 1)):
    seen.append(seed)
    return task.batch_at(seed, step)

  predict.evaluate(
    loaded, task._replace(batch_at=batch_at), "causal_lm", seed=5
  )
  assert seen == [5]


def test_data_that_do_not_fit(tmp_path):
  loaded = toys.causal()
  rows = _causal_rows(np.random.default_rng(0))
  task = toys.task_of(rows, 7)
  with pytest.raises(errors.UserError, match="head 'masked_lm'; this one"):
    predict.evaluate(loaded, task, "masked_lm")
  with pytest.raises(errors.UserError, match="no token to predict"):
    nothing = rows | {"weights": 0 * rows["weights"]}
    predict.evaluate(loaded, toys.task_of(nothing, 7), "causal_lm")
  with pytest.raises(errors.UserError, match="reads targets, weights"):
    plain = {key: rows[key] for key in ("inputs", "segments")}
    predict.evaluate(loaded, toys.task_of(plain, 7), "causal_lm")
  with pytest.raises(errors.UserError, match="no predictions to write"):
    predict.evaluate(loaded, task, "causal_lm", out=tmp_path / "x")
