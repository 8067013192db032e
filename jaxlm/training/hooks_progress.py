"""How the run goes, for who watches: a bar, or lines without a terminal."""

import rich.console
import rich.progress

from jaxlm.training.durations import Duration
from jaxlm.training.hooks import Hook, Moment


class ProgressBar(Hook):
  """Shows steps, loss, tokens/s and time left.

  Args:
    duration: of the run.
    every: steps between new numbers.
    start: the step that this session starts from.
    console: where to show it.
  """

  def __init__(
    self,
    duration: Duration,
    every: int,
    start: int,
    console: rich.console.Console | None = None,
  ):
    self._duration = duration
    self._numbers = every
    self._console = console or rich.console.Console()
    self._bar = None
    self.every = 1
    if not (self._console.is_terminal or self._console.is_jupyter):
      self.every = every
      return
    self._bar = rich.progress.Progress(
      rich.progress.TextColumn("{task.description}"),
      rich.progress.BarColumn(),
      rich.progress.TextColumn("{task.fields[numbers]}"),
      rich.progress.TimeRemainingColumn(compact=True),
      console=self._console,
    )
    self._task = self._bar.add_task(
      "train", total=self._total(), completed=start, numbers=""
    )
    self._bar.start()

  def __call__(self, moment: Moment) -> None:
    numbers = moment.reason or (
      self._numbers and moment.step % self._numbers == 0
    )
    text = summary(moment, self._duration) if numbers else None
    if self._bar is None:
      self._console.print(text, highlight=False)
      return
    done = moment.step
    if self._duration.steps is None:
      done = moment.progress.seconds
    extra = {} if text is None else {"numbers": text}
    self._bar.update(self._task, completed=done, **extra)

  def close(self) -> None:
    """Leaves the last state of the bar on the screen."""
    if self._bar is not None:
      self._bar.stop()

  def _total(self):
    steps, seconds = self._duration
    return seconds if steps is None else steps


def summary(moment: Moment, duration: Duration) -> str:
  """One line: step, loss, validation loss, tokens/s, time left."""
  metrics = moment.metrics()
  progress = moment.settle()
  total = "" if duration.steps is None else f"/{duration.steps}"
  parts = [f"step {moment.step}{total}"]
  if "loss" in metrics:
    parts.append(f"loss {metrics['loss']:.3f}")
  if progress.validation:
    parts.append(f"validation {progress.validation['loss']:.3f}")
  rate = progress.tokens / max(progress.train_seconds, 1e-9)
  parts.append(f"{short(rate)} tokens/s")
  left = seconds_left(moment.step, progress.seconds, duration)
  parts.append(f"{clock(left)} left")
  return "  ".join(parts)


def seconds_left(step: int, seconds: float, duration: Duration) -> float:
  """Seconds to the end at the pace of the run so far."""
  if duration.steps is None:
    return max(duration.seconds - seconds, 0.0)
  return seconds / max(step, 1) * max(duration.steps - step, 0)


def short(value: float) -> str:
  """950, 12.3k, 4.5M."""
  for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
    if value >= size:
      return f"{value / size:.3g}{unit}"
  return f"{value:.0f}"


def clock(seconds: float) -> str:
  """1:02:03, or 2:03 below an hour."""
  minutes, seconds = divmod(int(seconds + 0.5), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}:{minutes:02d}:{seconds:02d}"
  return f"{minutes}:{seconds:02d}"
