"""Evaluation, and checkpoints that keep the newest and the best."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxlm.training.checkpoint import Checkpoints
from jaxlm.training.hooks import Hook, Moment


class Evaluate(Hook):
  """Measures held-out loss and notes whether it is the best so far.

  Args:
    every: steps between evaluations.
    measure: state -> {"loss": ..., ...}.
  """

  def __init__(self, every: int, measure: Callable[[Any], dict[str, float]]):
    self.every = every
    self._measure = measure

  def wants(self, moment: Moment) -> bool:
    """At its steps and at the end, but not when asked to stop at once."""
    return moment.last or (not moment.reason and super().wants(moment))

  def __call__(self, moment: Moment) -> None:
    with moment.aside():
      validation = self._measure(moment.state)
    progress = moment.progress
    progress.validation = validation
    moment.evaluated = True
    loss, best = validation["loss"], progress.best_loss
    if math.isfinite(loss) and (best is None or loss < best):
      progress.best_loss, progress.best_step = loss, moment.step


class Save(Hook):
  """Saves a checkpoint at its steps, at each best evaluation and at the end.

  Args:
    every: steps between saves.
    checkpoints: where.
    about: plain data that goes into each (config, facts).
  """

  def __init__(
    self, every: int, checkpoints: Checkpoints, about: Mapping[str, Any]
  ):
    self.every = every
    self._checkpoints = checkpoints
    self._about = about

  def wants(self, moment: Moment) -> bool:
    """At its steps, where the evaluation was the best, and at the end."""
    best = moment.evaluated and moment.progress.best_step == moment.step
    return best or super().wants(moment)

  def __call__(self, moment: Moment) -> None:
    # A state that is not finite raises here and is not saved.
    progress = moment.settle()
    loss = progress.validation["loss"] if moment.evaluated else None
    with moment.aside():
      self._checkpoints.save(
        moment.state,
        {
          **self._about,
          "step": moment.step,
          "finished": moment.last,
          "progress": dataclasses.asdict(progress),
        },
        loss if loss is not None and math.isfinite(loss) else None,
      )
      if moment.reason:
        self._checkpoints.wait()
