"""The loop in one process: resuming, logs, best, NaN, budgets, bad input."""

import errno
import json
import threading

import jax
import numpy as np
import pytest

from jaxlm import sharding
from jaxlm.errors import UserError
from jaxlm.training import checkpoint, loop, plan
from jaxlm.training.durations import Duration
from jaxlm.training.hooks import Every
from tests.training import runs, toy


def same(a, b):
  jax.tree.map(
    np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b)
  )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole")
  return workdir, loop.train(runs.make(), workdir)


def test_it_trains_and_writes_what_the_design_says(whole):
  workdir, result = whole
  assert result.finished and result.step == 12
  assert {p.name for p in workdir.iterdir()} == {
    ".lock",
    "checkpoints",
    "config.json",
    "metrics.jsonl",
    "run.json",
  }
  lines = runs.lines(workdir)
  assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
  assert lines[-1]["loss"] < lines[0]["loss"]
  assert lines[2]["validation/loss"] > 0 and "validation/loss" not in lines[1]
  assert result.validation["loss"] == lines[-1]["validation/loss"]
  seen = sum(
    (toy.task().batch_at(5, step)["segments"] > 0).sum() for step in range(12)
  )
  assert lines[-1]["tokens"] == seen
  assert result.metrics["loss"] == lines[-1]["loss"]


def test_a_finished_run_is_left_alone(whole):
  workdir, result = whole
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*.json*")}
  again = loop.train(runs.make(), workdir)
  assert again.reason == "finished before" and again.finished
  same(again.state, result.state)
  assert again.validation == result.validation
  assert before == {p: p.stat().st_mtime_ns for p in before}


class Crash(Exception):
  pass


def crash_at(step):
  def check(moment):
    if moment.step == step:
      raise Crash

  return Every(1, check)


@pytest.mark.parametrize(
  "step", [pytest.param(3, marks=pytest.mark.slow), 5, 10]
)
def test_a_crashed_run_goes_on_to_the_same_parameters(whole, tmp_path, step):
  workdir, result = whole
  with pytest.raises(Crash):
    loop.train(runs.make(), tmp_path, hooks=[crash_at(step)])
  assert threading.active_count() < 20  # the feed's thread is gone
  again = loop.train(runs.make(), tmp_path)
  same(again.state, result.state)
  steps = [line["step"] for line in runs.lines(tmp_path)]
  assert steps == [2, 4, 6, 8, 10, 12]
  keys = ("step", "tokens", "validation/loss")
  short = lambda lines: [{k: line.get(k) for k in keys} for line in lines]
  assert short(runs.lines(tmp_path)) == short(runs.lines(workdir))
  card = json.loads((tmp_path / "run.json").read_text())
  assert len(card["sessions"]) == 2 and card["finished"]
  assert card["sessions"][1]["from_step"] == step // 4 * 4


def test_it_goes_on_over_another_mesh(whole, tmp_path):
  _, result = whole
  with pytest.raises(Crash):
    loop.train(runs.make(), tmp_path, hooks=[crash_at(9)])
  again = loop.train(runs.make(devices=4), tmp_path)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    jax.device_get(again.state.params),
    jax.device_get(result.state.params),
  )


def test_the_best_checkpoint_is_kept(tmp_path):
  losses = iter([3.0, 1.0, 2.0, 2.5, 2.0, 4.0])
  run = runs.make(evaluation=plan.EvaluationSettings(every=2))
  patch = pytest.MonkeyPatch()
  with patch.context() as patched:
    patched.setattr(
      loop, "_measure", lambda *_: lambda state: {"loss": next(losses)}
    )
    loop.train(run, tmp_path)
  kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
  # Best at 4; saved besides are 2 (best then), 8 and 12.
  assert kept == [4, 8, 12]
  card = json.loads((tmp_path / "run.json").read_text())
  assert card["best"] == {"loss": 1.0, "step": 4}


def test_a_loss_that_is_not_finite_stops_and_overwrites_nothing(tmp_path):
  task = toy.task(poison_step=9)
  with pytest.raises(UserError) as caught:
    loop.train(runs.make(task=task, validation=None), tmp_path)
  message = str(caught.value)
  digest = loop.batch_hash(task.batch_at(5, 9))[:16]
  assert f"not finite at step 9 (batch sha256 {digest})" in message
  assert f"{tmp_path}/checkpoints/8" in message
  assert checkpoint.latest(tmp_path) == 8
  assert [line["step"] for line in runs.lines(tmp_path)] == [2, 4, 6, 8]
  card = json.loads((tmp_path / "run.json").read_text())
  assert card["sessions"][0]["stopped"] == "not finite at step 9"
  # And again, from the checkpoint, with the same words.
  with pytest.raises(UserError, match="not finite at step 9"):
    loop.train(runs.make(task=task, validation=None), tmp_path)


def test_a_budget_of_time_ends_and_resumes(tmp_path):
  class FakeClock:
    now = 0.0

    def __call__(self):
      return self.now

  def session(clock, hooks=()):
    def tick(moment):
      clock.now += 1.0
      rates.append(moment.metrics()["learning_rate"])

    run = runs.make(
      duration=Duration(None, 20.0),
      validation=None,
      config={},
      log=plan.LogSettings(every=1, progress=False, tensorboard=False),
    )
    hooks = [*hooks, Every(1, tick)]
    return loop.train(run, tmp_path, hooks=hooks, clock=clock)

  rates = []
  with pytest.raises(Crash):
    session(FakeClock(), [crash_at(9)])
  # Saved at step 8, whose save came before its tick: 7 seconds had passed.
  rates.clear()
  later = FakeClock()
  later.now = 1e6  # another boot
  result = session(later)
  assert result.finished and result.step == 8 + 14
  # The schedule: up to 10% of 20 s, then a line down to 0 at 20 s.
  # Time is read before the hooks, so the first tick counts for the third step.
  passed = [7, *range(7, 20)]
  expected = [0.05 * (1 - (now - 2) / 18) for now in passed]
  np.testing.assert_allclose(rates, expected, rtol=1e-4)
  assert session(FakeClock()).reason == "finished before"


def test_a_workdir_of_another_config_is_refused(whole):
  workdir, _ = whole
  other = runs.make(config={"seed": 6, "model": {"width": 3}})
  with pytest.raises(UserError) as caught:
    loop.train(other, workdir)
  message = str(caught.value)
  assert "seed: 5 there, 6 now" in message
  assert "steps: 12 there, absent now" in message


def test_a_batch_that_does_not_divide_is_refused(tmp_path):
  run = runs.make(mesh=sharding.make_mesh(), task=toy.task(batch_size=12))
  with pytest.raises(UserError, match="config.batch_size=12.*Nearest: 16"):
    loop.train(run, tmp_path)
  assert not list(tmp_path.iterdir())


def test_an_error_of_the_data_comes_out(tmp_path):
  task = toy.task()

  def broken(seed, step, shard=(0, 1)):
    if step == 3:
      raise UserError("cache/rows.bin is damaged")
    return task.batch_at(seed, step, shard)

  with pytest.raises(UserError, match="rows.bin is damaged"):
    loop.train(runs.make(task=task._replace(batch_at=broken)), tmp_path)
  assert not [t for t in threading.enumerate() if t.name.startswith("feed")]


def test_a_full_disk_is_a_sentence(tmp_path):
  def full(moment):
    raise OSError(errno.ENOSPC, "No space left on device")

  with pytest.raises(UserError, match="No space left on the disk of"):
    loop.train(runs.make(), tmp_path, hooks=[Every(2, full)])


def test_nothing_is_fetched_between_log_lines(tmp_path, monkeypatch):
  fetched = []
  real = jax.device_get

  def counted(value):
    fetched.append(1)
    return real(value)

  run = runs.make(
    validation=None,
    checkpoint=plan.CheckpointSettings(every=0),
    log=plan.LogSettings(every=6, progress=False, tensorboard=False),
  )
  seen = []
  monkeypatch.setattr(jax, "device_get", counted)
  hook = Every(1, lambda moment: seen.append(len(fetched)))
  loop.train(run, tmp_path, hooks=[hook])
  # Only steps 6 and 12 fetched anything.
  changed = [i + 2 for i, (a, b) in enumerate(zip(seen, seen[1:])) if b > a]
  assert changed == [6, 12]
