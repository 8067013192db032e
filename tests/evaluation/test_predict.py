import json

import numpy as np
import pytest

from jaxlm import errors
from jaxlm.evaluation import metrics, predict, records
from tests.evaluation import toys

LABELS = ("neg", "neu", "pos")


def _rows(count, labels, rng):
  lengths = rng.integers(2, 9, count)
  inputs = rng.integers(5, 20, (count, 8)).astype(np.int32)
  segments = (np.arange(8)[None] < lengths[:, None]).astype(np.int32)
  return {
    "inputs": inputs * segments,
    "segments": segments,
    "labels": labels[:, None],
    "label_weights": np.ones((count, 1), np.float32),
  }


@pytest.fixture(scope="module")
def classifier():
  loaded = toys.masked(classify=dict(kind="classify", classes=3))
  return loaded._replace(labels=LABELS, task="classification")


@pytest.fixture(scope="module")
def rows():
  rng = np.random.default_rng(0)
  return _rows(10, rng.integers(0, 3, 10).astype(np.int32), rng)


def _one_by_one(loaded, rows, head):
  return np.concatenate(
    [
      toys.jitted(loaded.model, head)(
        loaded.variables, {k: v[i : i + 1] for k, v in rows.items()}
      )
      for i in range(len(rows["inputs"]))
    ]
  )


def test_batches_give_what_single_rows_give(classifier, rows):
  task = toys.task_of(rows, 4)  # 3 batches; the last wraps around
  found = predict.predict(
    classifier.model, classifier.variables, task, "classify"
  )
  slow = _one_by_one(classifier, rows, "classify")[:, 0]
  np.testing.assert_allclose(found.outputs, slow, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(found.rows, np.arange(10))
  np.testing.assert_array_equal(found.labels, rows["labels"][:, 0])


def test_metrics_do_not_depend_on_the_batch_size(classifier, rows):
  found = [
    predict.evaluate(classifier, toys.task_of(rows, size))
    for size in (4, 5, 16)
  ]
  assert found[0] == found[1] == found[2]
  slow = _one_by_one(classifier, rows, "classify")[:, 0].argmax(-1)
  assert found[0]["accuracy"] == np.mean(slow == rows["labels"][:, 0])
  assert found[0]["count"] == 10


def test_weightless_labels_are_dropped(classifier, rows):
  weights = np.ones((10, 1), np.float32)
  weights[[2, 7]] = 0
  task = toys.task_of(rows | {"label_weights": weights}, 4)
  found = predict.predict(
    classifier.model, classifier.variables, task, "classify"
  )
  assert found.rows.tolist() == [0, 1, 3, 4, 5, 6, 8, 9]
  nothing = rows | {"label_weights": np.zeros((10, 1), np.float32)}
  with pytest.raises(errors.UserError, match="no labelled item"):
    predict.evaluate(classifier, toys.task_of(nothing, 4))


def test_the_file_is_what_is_scored(classifier, rows, tmp_path, monkeypatch):
  out = tmp_path / "deep" / "predictions.jsonl"
  task = toys.task_of(rows, 4)
  found = predict.evaluate(classifier, task, out=out)
  lines = [json.loads(line) for line in out.read_text().splitlines()]
  assert lines[0] == {"kind": "classification", "classes": list(LABELS)}
  assert [line["row"] for line in lines[1:]] == list(range(10))
  for line in lines[1:]:
    best = LABELS[int(np.argmax(line["probabilities"]))]
    assert line["prediction"] == best
    assert sum(line["probabilities"]) == pytest.approx(1, abs=1e-5)
  assert records.score(*records.read(out)) == found
  # Other contents of the file give other metrics: it is read back.
  real = records.write

  def write(path, kind, names, lines, **how):
    lines = [line | {"prediction": line["label"]} for line in lines]
    real(path, kind, names, lines, **how)

  monkeypatch.setattr(records, "write", write)
  found = predict.evaluate(classifier, task, out=tmp_path / "right.jsonl")
  assert found["accuracy"] == 1.0


def test_predictions_are_not_overwritten(classifier, rows, tmp_path):
  out = tmp_path / "predictions.jsonl"
  task = toys.task_of(rows, 4)
  predict.evaluate(classifier, task, out=out)
  predict.evaluate(classifier, task, out=out)  # the same: fine
  before = out.read_bytes()
  other = rows | {"labels": (rows["labels"] + 1) % 3}
  with pytest.raises(errors.UserError, match="exists and holds something"):
    predict.evaluate(classifier, toys.task_of(other, 4), out=out)
  assert out.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == [out.name]
  with pytest.raises(errors.UserError, match="exists and holds something"):
    predict.evaluate(classifier, task, out=tmp_path, replace=True)  # a folder
  predict.evaluate(classifier, toys.task_of(other, 4), out=out, replace=True)
  assert out.read_bytes() != before


def test_label_names_decide_not_their_order(classifier, rows):
  plain = predict.evaluate(classifier, toys.task_of(rows, 4))
  turned = ("pos", "neg", "neu")  # the data's own order of the same names
  ids = np.array([turned.index(name) for name in LABELS], np.int32)
  task = toys.task_of(rows | {"labels": ids[rows["labels"]]}, 4)
  assert predict.evaluate(classifier, task, classes=turned) == plain
  assert predict.evaluate(classifier, task) != plain
  with pytest.raises(errors.UserError, match="'neh'. Did you mean 'ne[gu]'"):
    predict.evaluate(classifier, task, classes=("pos", "neh", "neu"))


def test_unnamed_classes_take_the_names_of_the_data(classifier, rows, tmp_path):
  unnamed = classifier._replace(labels=("LABEL_0", "LABEL_1", "LABEL_2"))
  task, out = toys.task_of(rows, 4), tmp_path / "out.jsonl"
  predict.evaluate(unnamed, task, classes=("x", "y", "z"), out=out)
  assert records.read(out)[1] == ("x", "y", "z")
  with pytest.raises(errors.UserError, match="2 classes .x, y. but the model"):
    predict.evaluate(unnamed, task, classes=("x", "y"))


def test_data_with_more_classes_than_the_model(classifier, rows):
  task = toys.task_of(rows | {"labels": rows["labels"] + 2}, 4)
  with pytest.raises(errors.UserError, match="a class 4 but .* 3 apart"):
    predict.evaluate(classifier, task)


def test_regression(rows, tmp_path):
  loaded = toys.masked(regress=dict(kind="regress"))
  rng = np.random.default_rng(3)
  rows = rows | {"labels": rng.random((10, 1)).astype(np.float32)}
  out = tmp_path / "out.jsonl"
  found = predict.evaluate(loaded, toys.task_of(rows, 4), "regression", out=out)
  slow = _one_by_one(loaded, rows, "regress")[:, 0, 0]
  expected = metrics.regression(rows["labels"][:, 0], slow)
  for name, value in expected.items():
    assert found[name] == pytest.approx(value, rel=1e-3), name


def test_tagging_is_scored_by_sentence(rows, tmp_path):
  tags = ("O", "B-X", "I-X")
  loaded = toys.masked(tag=dict(kind="tag", classes=3))._replace(labels=tags)
  rng = np.random.default_rng(4)
  weights = rows["segments"] * (rng.random((10, 8)) < 0.7)
  weights[:, 0] = 1
  weights[5] = 0  # a sentence without tags
  rows = {key: rows[key] for key in ("inputs", "segments")} | {
    "tags": rng.integers(0, 3, (10, 8)).astype(np.int32),
    "tag_weights": weights.astype(np.float32),
  }
  out = tmp_path / "out.jsonl"
  found = predict.evaluate(loaded, toys.task_of(rows, 4), "tagging", out=out)
  slow = _one_by_one(loaded, rows, "tag").argmax(-1)
  true, guess = [], []
  for i in [0, 1, 2, 3, 4, 6, 7, 8, 9]:
    keep = weights[i] > 0
    true.append([tags[t] for t in rows["tags"][i][keep]])
    guess.append([tags[t] for t in slow[i][keep]])
  assert found == metrics.tagging(true, guess)
  assert found["sentences"] == 9 and "entity_f1" in found


def test_broken_models_are_told(classifier, rows):
  head = classifier.variables["params"]
  broken = {
    "params": {
      key: value
      if "classify" not in key
      else {n: {k: v * np.nan for k, v in p.items()} for n, p in value.items()}
      for key, value in head.items()
    }
  }
  with pytest.raises(errors.UserError, match="10 of 10 outputs .* finite"):
    predict.predict(classifier.model, broken, toys.task_of(rows, 4), "classify")


def test_heads_kinds_and_labels_that_are_missing(classifier, rows, tmp_path):
  task = toys.task_of(rows, 4)
  with pytest.raises(errors.UserError, match="head 'tag'; this one has: clas"):
    predict.evaluate(classifier, task, "tagging")
  with pytest.raises(errors.UserError, match="Did you mean 'regression'"):
    predict.evaluate(classifier, task, "regresion")
  with pytest.raises(errors.UserError, match="kind 'None'. Known: causal"):
    predict.evaluate(classifier._replace(task=None), task)
  with pytest.raises(errors.UserError, match="no labels .* inputs, segments"):
    plain = {key: rows[key] for key in ("inputs", "segments")}
    predict.evaluate(classifier, toys.task_of(plain, 4))


def test_damaged_prediction_files(tmp_path):
  path = tmp_path / "p.jsonl"
  with pytest.raises(errors.UserError, match="no predictions file"):
    records.read(path)
  path.write_text('{"kind": "regression", "classes": []}\n{"label": 1')
  with pytest.raises(errors.UserError, match="p.jsonl, line 2"):
    records.read(path)
  path.write_text('{"kind": "regression", "classes": []}\n{"label": 1}\n')
  with pytest.raises(errors.UserError, match="line 2: expected .* prediction"):
    records.read(path)
  path.write_text('{"kind": "regression", "classes": []}\n')
  with pytest.raises(errors.UserError, match="holds no predictions"):
    records.read(path)
  with pytest.raises(errors.UserError, match="Did you mean 'tagging'"):
    records.score("taging", (), [{"label": [], "prediction": []}])
