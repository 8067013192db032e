"""Tables of training benchmarks, from curves that are known."""

import argparse
import functools
import json
import os

import jax
import pytest

import jaxlm
from benchmarks import _machine, _training, architectures, optimizers
from jaxlm import sharding


def result(name, losses, seconds, **more):
  curve = dict(steps=[10, 20], losses=losses)
  times = [seconds, seconds]
  return dict(
    name=name, rate=1e-3, curves=[curve, curve], seconds=times, **more
  )


def test_losses_lie_on_the_line_between_evaluations():
  one = result("a", [4.0, 2.0], 1.0)
  assert _training.losses_at(one, 15) == [3.0, 3.0]
  assert _training.cell(one, 20) == "2.000 ± 0.000"


def test_equal_time_stops_the_slower_run():
  table = optimizers.table(
    [
      result("adamw", [4.0, 2.0], 1.0, state_bytes=100),
      result("slow", [4.0, 1.0], 2.0, state_bytes=50),
    ]
  )
  assert (
    "| slow | 0.001 | 2.00x (2.00 to 2.00) | 0.50x | 1.000 ± 0.000 | 4.000"
    in table
  )


def test_equal_flops_stops_the_dearer_model():
  args = argparse.Namespace(rows=4, length=8)
  table = architectures.table(
    [
      result("cheap", [4.0, 2.0], 1.0, parameters=7, flops=1e9, bytes=1),
      result("dear", [4.0, 1.0], 1.0, parameters=7, flops=2e9, bytes=1),
    ],
    args,
  )
  dear = next(line for line in table.splitlines() if "dear" in line)
  cells = [cell.strip() for cell in dear.split("|")][1:-1]
  assert cells[3:6] == ["1.000 ± 0.000", "4.000 ± 0.000", "1.000 ± 0.000"]
  assert table.index("dear") < table.index("cheap")


def test_the_picture_is_drawn(tmp_path):
  results = [
    result("adamw", [4.0, 2.0], 1.0, state_bytes=100),
    result("slow", [4.0, 1.0], 2.0, state_bytes=50),
  ]
  optimizers.plot(json.loads(json.dumps(results)), tmp_path / "o.png")
  assert (tmp_path / "o.png").stat().st_size > 5000


@pytest.mark.slow
def test_feedforwards_are_widened_to_the_parameters_wanted():
  config = architectures.config_of(
    "bert",
    architectures.RACES["masked_lm"],
    argparse.Namespace(
      steps=1, rows=1, files="x", length=64, vocabulary=512, rates=[1e-3]
    ),
  )
  for wanted in (150_000, 300_000):
    _, size = architectures.fitted(config["model"], wanted, 512)
    assert abs(size - wanted) / wanted < 0.02


@pytest.mark.slow
def test_a_quick_run(tmp_path, capsys, monkeypatch):
  # As they are run: many steps in flight on eight devices would starve a core.
  one = functools.partial(sharding.make_mesh, devices=jax.devices()[:1])
  monkeypatch.setattr(sharding, "make_mesh", one)
  text = tmp_path / "text.txt"
  text.write_text(
    "\n\n".join(f"the cat {i} sat on mat {i}" for i in range(900))
  )
  common = [f"--files={text}", "--steps=4", "--every=2", "--seeds=2"]
  common += ["--rows=8", "--vocabulary=300", "--batches=1"]
  common += ["--rounds=1", "--round=1"]
  architectures.main([*common, "--names=bert", "--parameters=60000"])
  optimizers.main([*common, "--names=adamw;sophia", "--factors=1"])
  out = capsys.readouterr().out
  assert "| bert |" in out and "| sophia |" in out


def test_the_machine_is_named_on_one_line():
  versions = f"jaxlm {jaxlm.__version__}, jax {jax.__version__}, "
  assert _machine.named().startswith(versions)
  assert f"{os.cpu_count()} cores, Python 3." in _machine.named()
