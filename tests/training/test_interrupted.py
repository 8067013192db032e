"""Real processes, really killed: the same parameters to the last bit."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 60


def start(workdir, pause=0.03):
  words = ["-m", "tests.training.runs", workdir, STEPS, pause]
  return subprocess.Popen(
    [sys.executable, *map(str, words)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )


def wait_for(workdir, process, step):
  """Returns when the run has logged `step`."""
  path = workdir / "metrics.jsonl"
  deadline = time.monotonic() + 120
  while time.monotonic() < deadline:
    assert process.poll() is None, process.communicate()[1]
    if path.exists() and f'"step": {step},' in path.read_text():
      return
    time.sleep(0.005)
  raise AssertionError("the run never came to that step")


def outcome(process):
  out, err = process.communicate(timeout=120)
  assert process.returncode == 0, err
  return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  return outcome(start(tmp_path_factory.mktemp("whole"), pause=0))


def test_killed_twice_it_ends_with_the_same_bits(whole, tmp_path):
  moments = random.Random(20)
  for low in (5, 30):
    process = start(tmp_path)
    wait_for(tmp_path, process, low + moments.randrange(15))
    time.sleep(moments.random() * 0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
  assert outcome(start(tmp_path, pause=0)) == whole
  card = json.loads((tmp_path / "run.json").read_text())
  assert [s["stopped"] for s in card["sessions"]] == [
    "killed",
    "killed",
    "finished",
  ]
  text = (tmp_path / "metrics.jsonl").read_text()
  steps = [json.loads(line)["step"] for line in text.splitlines()]
  assert steps == list(range(1, STEPS + 1))


def test_sigterm_saves_first_and_goes_on_later(whole, tmp_path):
  process = start(tmp_path)
  wait_for(tmp_path, process, 20)
  process.send_signal(signal.SIGTERM)
  stopped = outcome(process)
  assert stopped["reason"] == "SIGTERM" and 20 <= stopped["step"] < STEPS
  assert (tmp_path / "checkpoints" / str(stopped["step"])).is_dir()
  assert outcome(start(tmp_path, pause=0)) == whole
