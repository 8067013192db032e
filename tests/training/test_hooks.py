"""Logs on disk and for the eye, the meter, workdirs, signals, the feed."""

import io
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import rich.console

from jaxlm import sharding
from jaxlm.errors import UserError
from jaxlm.training import hooks_log, hooks_progress, loop, workdir
from jaxlm.training.durations import Duration
from jaxlm.training.feed import Feed, batch_hash
from jaxlm.training.hooks import Every, Moment, Progress, Watch
from jaxlm.training.hooks_progress import ProgressBar, clock, short
from jaxlm.training.meter import Meter, NonFinite
from jaxlm.training.plan import LogSettings
from jaxlm.training.signals import Stop, agree
from tests.training import runs, toy


def step_metrics(loss, tokens=10, finite=True, rate=0.1):
  return dict(
    loss=np.float32(loss),
    tokens=np.int32(tokens),
    finite=np.bool_(finite),
    step=np.int32(0),
    learning_rate=np.float32(rate),
  )


def test_a_meter_reads_means_sums_and_the_last():
  meter = Meter(tokens=100)
  for index, loss in enumerate((1.0, 2.0, 6.0)):
    meter.add(index, step_metrics(loss, rate=index))
  assert meter.read() == {"loss": 3.0, "tokens": 30.0, "learning_rate": 2.0}
  assert meter.tokens == 130 and meter.read() == {}


def test_a_meter_names_the_first_bad_step():
  meter = Meter()
  for index, fine in enumerate((True, True, False, False)):
    meter.add(index + 7, step_metrics(1.0, finite=fine))
  with pytest.raises(NonFinite) as caught:
    meter.settle()
  assert caught.value.step == 9 and meter.tokens == 20


def test_lines_after_the_resumed_step_go(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"st')
  hooks_log.keep_until(path, 4)
  assert path.read_text() == '{"step": 2}\n{"step": 4}\n'
  hooks_log.keep_until(tmp_path / "absent.jsonl", 4)


def moment(step=50, tokens=2000, seconds=4.0, reason=None):
  now = [seconds]
  progress = Progress(tokens, seconds, seconds)
  progress.validation = {"loss": 5.25}
  watch = Watch(lambda: now[0], progress)
  meter = Meter(tokens)
  meter.add(step - 1, step_metrics(6.125, tokens=0))
  return Moment(step, None, meter, progress, watch, reason)


def test_a_line_for_the_eye():
  text = hooks_progress.summary(moment(), Duration(200))
  assert text == (
    "step 50/200  loss 6.125  validation 5.250  500 tokens/s  0:12 left"
  )
  text = hooks_progress.summary(moment(), Duration(None, 3604.0))
  assert text.startswith("step 50  loss") and text.endswith("1:00:00 left")
  assert short(12345) == "12.3k" and short(4.5e6) == "4.5M"
  assert clock(59.6) == "1:00" and clock(3723) == "1:02:03"


def test_a_bar_on_a_terminal_and_lines_without():
  out = io.StringIO()
  console = rich.console.Console(file=out, force_terminal=True, width=120)
  bar = ProgressBar(Duration(200), 50, 0, console)
  assert bar.every == 1
  bar(moment())
  bar.close()
  assert "loss 6.125" in out.getvalue() and "\x1b[" in out.getvalue()
  out = io.StringIO()
  console = rich.console.Console(file=out, force_terminal=False, width=120)
  bar = ProgressBar(Duration(200), 50, 0, console)
  assert bar.wants(moment(50)) and not bar.wants(moment(51))
  bar(moment())
  bar.close()
  assert out.getvalue().startswith("step 50/200  loss 6.125")
  assert "\x1b[" not in out.getvalue()


def test_tensorboard_gets_the_same_numbers(tmp_path):
  run = runs.make(
    steps=4,
    validation=None,
    log=LogSettings(every=2, progress=False, tensorboard=True),
  )
  loop.train(run, tmp_path)
  files = list((tmp_path / "tensorboard").iterdir())
  assert len(files) == 1
  content = files[0].read_bytes()
  assert b"train/loss" in content and b"train/tokens_per_second" in content
  assert b"loss/token" in content


def test_time_aside_is_not_training():
  now = [0.0]
  watch = Watch(lambda: now[0], Progress(seconds=10.0, train_seconds=6.0))
  now[0] = 3.0
  with watch.aside():
    now[0] = 5.0
  now[0] = 6.0
  assert watch.seconds() == 16.0 and watch.train_seconds() == 10.0


def test_a_hook_runs_at_its_steps_and_at_the_end():
  hook = Every(5, print)
  assert hook.wants(moment(10)) and not hook.wants(moment(11))
  assert hook.wants(moment(11, reason="SIGTERM"))
  assert not Every(0, print).wants(moment(10))


def test_a_claim_is_kept_and_compared(tmp_path):
  config = {"seed": 1, "model": {"width": 8, "order": ("a",)}, "log": {"x": 1}}
  workdir.claim(tmp_path, config)
  workdir.claim(tmp_path, config)
  free = config | {"log": {"every": 7}, "mesh": {"fsdp": 2}}
  workdir.claim(tmp_path, free)
  saved = json.loads((tmp_path / "config.json").read_text())
  assert saved["log"] == {"every": 7}
  with pytest.raises(UserError) as caught:
    workdir.claim(tmp_path, free | {"model": {"width": 16}, "steps": 5})
  message = str(caught.value)
  assert "model.order: ['a'] there, absent now" in message
  assert "model.width: 8 there, 16 now" in message
  assert "steps: absent there, 5 now" in message and "log" not in message
  assert json.loads((tmp_path / "config.json").read_text()) == saved


def test_a_claim_of_a_broken_or_foreign_folder(tmp_path):
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(UserError, match="Cannot read .*config.json"):
    workdir.claim(tmp_path, {})
  (tmp_path / "config.json").unlink()
  (tmp_path / "checkpoints" / "7").mkdir(parents=True)
  with pytest.raises(UserError, match="checkpoints but no config.json"):
    workdir.claim(tmp_path, {})


def test_one_process_at_a_time(tmp_path):
  code = (
    "import sys; sys.path.insert(0, '.')\n"
    "from jaxlm.training import workdir\n"
    f"with workdir.lock({str(tmp_path)!r}): print('inside')"
  )
  run = lambda: subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True
  )
  with workdir.lock(tmp_path):
    answer = run()
    assert f"Process {os.getpid()} is training in" in answer.stderr
  assert run().stdout == "inside\n"


def test_a_signal_is_noted_and_handlers_come_back():
  before = signal.getsignal(signal.SIGTERM)
  with Stop() as stop:
    assert stop.requested is None
    signal.raise_signal(signal.SIGTERM)
    assert stop.requested == "SIGTERM"
  assert signal.getsignal(signal.SIGTERM) is before
  with Stop() as stop:
    signal.raise_signal(signal.SIGINT)
    assert stop.requested == "SIGINT"
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
  assert agree(True, 3.0) == (True, 3.0)


def test_a_feed_gives_each_step_once_and_ends():
  mesh = sharding.make_mesh()
  task = toy.task()
  with Feed(task, 5, 3, 6, mesh) as feed:
    got = {step: batch for step, batch in feed}
  assert list(got) == [3, 4, 5]
  for step, batch in got.items():
    assert batch_hash(batch) == batch_hash(task.batch_at(5, step))


def test_a_feed_stops_in_the_middle():
  before = threading.active_count()
  with Feed(toy.task(), 5, 0, None, sharding.make_mesh()) as feed:
    for step, _ in feed:
      if step == 4:
        break
  assert threading.active_count() == before


def test_a_hash_tells_batches_apart():
  batch = {"a": np.arange(4, dtype=np.int32), "b": np.zeros(2, np.float32)}
  same = dict(reversed(batch.items()))
  assert batch_hash(batch) == batch_hash(same)
  for key, value in (
    ("a", np.arange(4, dtype=np.int64)),
    ("a", np.arange(4, dtype=np.int32).reshape(2, 2)),
    ("b", np.float32([0, 1])),
  ):
    assert batch_hash(batch | {key: value}) != batch_hash(batch)
