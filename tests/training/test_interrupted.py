"""Real processes, really killed: the same parameters to the last bit."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from jaxlm.training import checkpoint, loop
from tests.training import runs

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


def test_killed_twice_and_stopped_once_it_ends_with_the_same_bits(tmp_path):
  whole = runs.outcome(loop.train(runs.slow(STEPS), tmp_path / "whole"))
  workdir = tmp_path / "killed"
  moments = random.Random(20)
  for low in (5, 25):
    process = start(workdir)
    wait_for(workdir, process, low + moments.randrange(10))
    time.sleep(moments.random() * 0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
  process = start(workdir)
  wait_for(workdir, process, 45)
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate(timeout=120)
  assert process.returncode == 0, err
  stopped = json.loads(out.splitlines()[-1])
  assert stopped["reason"] == "SIGTERM" and 45 <= stopped["step"] < STEPS
  # SIGTERM saves first.
  assert checkpoint.latest(workdir) == stopped["step"]
  assert runs.outcome(loop.train(runs.slow(STEPS), workdir)) == whole
  card = json.loads((workdir / "run.json").read_text())
  ends = [session["stopped"] for session in card["sessions"]]
  assert ends == ["killed", "killed", "SIGTERM", "finished"]
  assert card["sessions"][3]["from_step"] == stopped["step"]
  steps = [line["step"] for line in runs.lines(workdir)]
  assert steps == list(range(1, STEPS + 1))
