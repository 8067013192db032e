"""Everything periodic is a hook; the loop knows none by name."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from jaxlm.training.meter import Meter
from jaxlm.training.state import TrainState


@dataclasses.dataclass
class Progress:
  """What a run remembers between sessions, kept in its checkpoints.

  Attributes:
    tokens: real tokens trained on.
    seconds: time in the loop, with evaluations and saves.
    train_seconds: of these, time in training alone.
    validation: the newest means on held-out batches, or None.
    best_loss: the lowest validation loss, or None.
    best_step: its step.
  """

  tokens: int = 0
  seconds: float = 0.0
  train_seconds: float = 0.0
  validation: dict[str, float] | None = None
  best_loss: float | None = None
  best_step: int | None = None


class Moment:
  """The run after a step, as hooks see it.

  Attributes:
    step: updates done.
    state: the state; donated to the next step, so not to be kept.
    meter: metrics that were not read yet.
    progress: what the run remembers; hooks may update it.
    last: whether the run is at its end.
    reason: why the loop stops after this step, or None if it goes on.
    evaluated: whether `progress.validation` is of this step.
  """

  def __init__(
    self,
    step: int,
    state: TrainState,
    meter: Meter,
    progress: Progress,
    watch: "Watch",
    reason: str | None = None,
  ):
    self.step = step
    self.state = state
    self.meter = meter
    self.progress = progress
    self.reason = reason
    self.evaluated = False
    self._watch = watch
    self._metrics: dict[str, float] | None = None

  @property
  def last(self) -> bool:
    """Whether the run is complete."""
    return self.reason == "finished"

  def metrics(self) -> dict[str, float]:
    """Means since the last reading; the same for all hooks of a moment."""
    if self._metrics is None:
      self._metrics = self.meter.read()
    return self._metrics

  @contextlib.contextmanager
  def aside(self) -> Iterator[None]:
    """Waits for the steps so far, and does not count what follows as training.

    Raises:
      NonFinite: a step so far was not finite.
    """
    self.meter.settle()
    with self._watch.aside():
      yield

  def settle(self) -> Progress:
    """Progress up to date: waits for the steps so far.

    Raises:
      NonFinite: one of them was not finite.
    """
    self.meter.settle()
    self.progress.tokens = self.meter.tokens
    self.progress.seconds = self._watch.seconds()
    self.progress.train_seconds = self._watch.train_seconds()
    return self.progress


class Watch:
  """Seconds of all sessions of a run, told apart into training and aside."""

  def __init__(self, clock, progress: Progress):
    self._clock = clock
    self._start = clock() - progress.seconds
    self._aside = progress.seconds - progress.train_seconds

  def seconds(self) -> float:
    """Seconds in the loop."""
    return self._clock() - self._start

  def train_seconds(self) -> float:
    """Seconds in training alone."""
    return self.seconds() - self._aside

  @contextlib.contextmanager
  def aside(self) -> Iterator[None]:
    """What runs inside is not training."""
    begin = self._clock()
    try:
      yield
    finally:
      self._aside += self._clock() - begin


class Hook:
  """Called every `every` steps (0: never) and where the loop stops.

  Override `__call__`, and `close` if something must be let go of.
  """

  every: int = 0

  def wants(self, moment: Moment) -> bool:
    """Whether this hook is due."""
    return bool(moment.reason) or _divides(self.every, moment.step)

  def __call__(self, moment: Moment) -> Any:
    """Does the work."""
    raise NotImplementedError

  def close(self) -> None:
    """Called once, however the loop ended."""


class Every(Hook):
  """Calls `function(moment)` every `every` steps and at the end."""

  def __init__(self, every: int, function):
    self.every = every
    self._function = function

  def __call__(self, moment: Moment) -> None:
    self._function(moment)


def _divides(every: int, step: int) -> bool:
  return every > 0 and step % every == 0
