"""What a run needs, as typed objects: the recipe makes it, the loop runs it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import optax
from jax.sharding import Mesh

from jaxlm import errors
from jaxlm.training.cost import Rates
from jaxlm.training.durations import Duration
from jaxlm.types import Task


@dataclasses.dataclass(frozen=True)
class CheckpointSettings:
  """`config.checkpoint`.

  Attributes:
    every: steps between saves; 0 saves at the end alone.
    keep: how many of the newest to keep, beside the best.
  """

  every: int = 1000
  keep: int = 3


@dataclasses.dataclass(frozen=True)
class LogSettings:
  """`config.log`.

  Attributes:
    every: steps between lines; means are over the steps in between.
    progress: show a progress bar (lines, where there is no terminal).
    tensorboard: write `workdir/tensorboard`.
  """

  every: int = 50
  progress: bool = True
  tensorboard: bool = True


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
  """`config.evaluation`.

  Attributes:
    every: steps between evaluations; 0 evaluates at the end alone.
    batches: how many batches; 0 is all.
  """

  every: int = 1000
  batches: int = 16


def settings(kind, given: Mapping[str, Any], key: str):
  """A settings dataclass from plain data.

  Args:
    kind: `CheckpointSettings`, `LogSettings`, `EvaluationSettings`, `Rates`.
    given: its fields.
    key: what messages call it, such as "config.log".

  Raises:
    UserError: an unknown field, another type, or a negative number.
  """
  fields = {field.name: field for field in dataclasses.fields(kind)}
  for name, value in given.items():
    if name not in fields:
      raise errors.unknown(f"{key} takes no", name, fields)
    _check(f"{key}.{name}", value, type(fields[name].default))
  return kind(**given)


def _check(name: str, value, kind: type) -> None:
  numbers = (int, float) if kind is float else kind
  if not isinstance(value, numbers) or isinstance(value, bool) != (
    kind is bool
  ):
    raise errors.UserError(
      f"{name} is {value!r}, expected a value of type {kind.__name__}."
    )
  if value < 0:
    raise errors.UserError(f"{name} is {value}, expected 0 or more.")


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
  """A run.

  Attributes:
    model: a Linen module.
    objective: what is minimised; see docs/design.md.
    tx: an optax transformation, built with `schedule`.
    schedule: schedule step -> learning rate (`durations.build_schedule`).
    task: training batches.
    duration: how long (`durations.resolve`).
    mesh: the devices (`sharding.make_mesh`).
    validation: held-out batches, or None.
    rules: overrides of `sharding.RULES`.
    microbatches: parts of a batch that run one after the other.
    seed: of initialisation, order and dropout.
    clip_norm: largest global gradient norm; 0 is off.
    params: nested dicts of host arrays to start from; what it lacks starts
      fresh.
    checkpoint: how often to save and how many to keep.
    log: how often to log and where.
    evaluation: how often to evaluate and how much.
    rates: what time and energy cost, and the peak of the devices.
    config: plain data that `workdir/config.json` keeps.
    facts: plain data of the data and tokenizer (hashes, counts).
    flops_per_step: by the formula (`cost.formula_flops`), or None.
  """

  model: Any
  objective: Any
  tx: optax.GradientTransformation
  schedule: Callable
  task: Task
  duration: Duration
  mesh: Mesh
  validation: Task | None = None
  rules: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  microbatches: int = 1
  seed: int = 0
  clip_norm: float = 0.0
  params: Mapping[str, Any] | None = None
  checkpoint: CheckpointSettings = CheckpointSettings()
  log: LogSettings = LogSettings()
  evaluation: EvaluationSettings = EvaluationSettings()
  rates: Rates = Rates()
  config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  flops_per_step: float | None = None

  @property
  def batch_size(self) -> int:
    """Rows of one update."""
    return next(iter(self.task.batch_spec.values())).shape[0]
