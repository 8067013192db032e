"""Plans of toy runs, and a process that trains one: `python -m ... WORKDIR`."""

import json
import pathlib
import sys
import time

import jax

from jaxlm import sharding
from jaxlm.optimizers import optimizers
from jaxlm.training import loop, plan
from jaxlm.training.durations import Duration, build_schedule
from jaxlm.training.fingerprint import fingerprint
from tests.training import toy


def make(steps=12, devices=1, **given) -> plan.TrainingPlan:
  """A toy run; `given` replaces fields of the plan."""
  duration = given.pop("duration", None) or Duration(steps)
  schedule = build_schedule({"kind": "linear", "warmup": 0.1}, 0.05, duration)
  fields = dict(
    model=toy.ToyModel(dropout=0.2),
    objective=toy.ToyObjective(),
    tx=optimizers.build({"kind": "adamw"}, learning_rate=schedule),
    schedule=schedule,
    task=toy.task(),
    validation=toy.task(rows=32, name="held_out"),
    duration=duration,
    mesh=sharding.make_mesh(fsdp=devices, devices=jax.devices()[:devices]),
    microbatches=2,
    seed=5,
    clip_norm=1.0,
    checkpoint=plan.CheckpointSettings(every=4, keep=2),
    log=plan.LogSettings(every=2, progress=False, tensorboard=False),
    evaluation=plan.EvaluationSettings(every=6, batches=2),
    config={"seed": 5, "steps": steps},
    facts={"tokenizer_sha256": "abc"},
  )
  return plan.TrainingPlan(**{**fields, **given})


def lines(workdir) -> list[dict]:
  """The lines of metrics.jsonl."""
  text = (pathlib.Path(workdir) / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def slow(steps, pause=0.0):
  """A plan of one process that logs each step and takes its time over it."""
  task = toy.task()
  batch_at = task.batch_at

  def slowly(*args, **kwargs):
    time.sleep(pause)
    return batch_at(*args, **kwargs)

  return make(
    steps=steps,
    task=task._replace(batch_at=slowly),
    validation=None,
    checkpoint=plan.CheckpointSettings(every=3, keep=2),
    log=plan.LogSettings(every=1, progress=False, tensorboard=False),
  )


def main(workdir, steps, pause):
  """Trains, and prints the outcome."""
  result = loop.train(slow(int(steps), float(pause)), workdir)
  print(json.dumps(outcome(result)), flush=True)


def outcome(result) -> dict:
  """What two runs have alike when they ended alike, to the last bit."""
  return dict(
    step=result.step,
    reason=result.reason,
    params=fingerprint(result.state.params),
    opt_state=fingerprint(result.state.opt_state),
  )


if __name__ == "__main__":
  main(*sys.argv[1:])
