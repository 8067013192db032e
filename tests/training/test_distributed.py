"""Two real processes through jax.distributed train as one does."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np

from jaxlm.training import loop, plan
from tests.training import runs

ROOT = pathlib.Path(__file__).parents[2]
CODE = """
import sys, json, jax
index, port, workdir = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{port}", 2, index)
from tests.training import test_distributed
test_distributed.half(workdir)
"""


def make(**given):
  return runs.make(
    steps=6,
    checkpoint=plan.CheckpointSettings(every=3, keep=2),
    evaluation=plan.EvaluationSettings(every=3, batches=2),
    **given,
  )


def half(workdir):
  """What each of the processes runs."""
  import jax

  assert jax.process_count() == 2 and len(jax.devices()) == 4
  result = loop.train(make(devices=4), workdir)
  print(json.dumps([result.metrics["loss"], result.validation["loss"]]))


def free_port():
  with socket.socket() as s:
    s.bind(("localhost", 0))
    return s.getsockname()[1]


def both(workdir):
  port = free_port()
  env = {**os.environ, "PYTHONPATH": str(ROOT)}
  env["XLA_FLAGS"] = env["XLA_FLAGS"].replace(
    "device_count=8", "device_count=2"
  )
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", CODE, str(index), str(port), str(workdir)],
      cwd=ROOT,
      env=env,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  answers = []
  try:
    for process in processes:
      out, err = process.communicate(timeout=180)
      assert process.returncode == 0, err[-3000:]
      answers.append(json.loads(out.splitlines()[-1]))
  finally:
    for process in processes:
      process.kill()
  return answers


def test_two_processes_train_to_the_loss_of_one(tmp_path):
  one = loop.train(make(), tmp_path / "one")
  expected = [one.metrics["loss"], one.validation["loss"]]
  first, second = both(tmp_path / "two")
  assert first == second
  np.testing.assert_allclose(first, expected, rtol=1e-5)
  logged = lambda name: [
    (line["step"], line["tokens"]) for line in runs.lines(tmp_path / name)
  ]
  assert logged("two") == logged("one")
  # What two processes saved, one reads.
  again = loop.train(make(devices=2), tmp_path / "two")
  assert again.reason == "finished before" and again.step == 6
