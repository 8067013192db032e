"""Plans of toy runs, and a process that trains one: `python -m ... WORKDIR`."""

import dataclasses
import json
import pathlib
import sys

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


def main(workdir, steps, pause):
  """Trains, slowly enough to be interrupted, and prints the outcome."""
  task = toy.task()
  batch_at = task.batch_at

  def slow(*args, **kwargs):
    import time

    time.sleep(float(pause))
    return batch_at(*args, **kwargs)

  run = make(
    steps=int(steps),
    task=task._replace(batch_at=slow),
    checkpoint=plan.CheckpointSettings(every=3, keep=2),
    evaluation=plan.EvaluationSettings(every=0, batches=1),
    log=plan.LogSettings(every=1, progress=False, tensorboard=False),
  )
  result = loop.train(run, workdir)
  outcome = dict(
    step=result.step,
    reason=result.reason,
    params=fingerprint(result.state.params),
    opt_state=fingerprint(result.state.opt_state),
  )
  print(json.dumps(outcome), flush=True)
  return result


def replace(run, **given):
  """A plan with other fields."""
  return dataclasses.replace(run, **given)


if __name__ == "__main__":
  main(*sys.argv[1:])
