"""A demo-sized model fine-tunes on real GLUE files, end to end."""

import json

import pytest

from jaxlm import configuration, run
from jaxlm.demo import materials


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("real")
  texts = materials.write(folder / "material").corpus
  config = configuration.load("demo:pretrain")
  configuration.override(
    config,
    [
      ("data.files", str(texts["train"])),
      ("data.validation_files", str(texts["validation"])),
      ("steps", "20"),
      ("log.tensorboard", "False"),
    ],
  )
  run.train(config, folder / "run", export=False)
  return folder


@pytest.mark.slow
@pytest.mark.parametrize(
  "task, changes, rows, metric",
  [
    ("SST-2", [("data.text", "sentence")], 872, "accuracy"),
    (
      "CoLA",
      [("data.header", "False"), ("data.text", "3"), ("data.label", "1")],
      1043,
      "mcc",
    ),
  ],
)
def test_glue(pretrained, shared, task, changes, rows, metric):
  files = shared / "glue" / task
  config = configuration.load("finetune:classification")
  configuration.override(
    config,
    [
      ("init_from", str(pretrained / "run")),
      ("data.files", str(files / "train.tsv.gz")),
      ("data.validation_files", str(files / "dev.tsv.gz")),
      ("data.length", "64"),
      ("steps", "40"),
      ("log.tensorboard", "False"),
      *changes,
    ],
  )
  workdir = pretrained / task
  trained = run.train(config, workdir, export=False)
  assert trained.metrics["count"] == rows
  assert -1.0 <= trained.metrics[metric] <= 1.0
  lines = (workdir / "predictions.jsonl").read_text().splitlines()[1:]
  right = sum(r["label"] == r["prediction"] for r in map(json.loads, lines))
  assert trained.metrics["accuracy"] == pytest.approx(right / rows)
