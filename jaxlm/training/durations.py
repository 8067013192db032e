"""How long a run is: steps, epochs, tokens or hours."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxlm import errors
from jaxlm.schedules import schedules

# A time budget has no number of steps; its schedule is laid out over this
# many, and stands where the share of the budget that has passed says.
TIMED_STEPS = 1_000_000

_SECONDS = {
  "s": 1, "sec": 1, "second": 1, "seconds": 1,
  "m": 60, "min": 60, "minute": 60, "minutes": 60,
  "h": 3600, "hour": 3600, "hours": 3600,
  "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip
_COUNTS = {
  "": "steps", "step": "steps", "steps": "steps",
  "epoch": "epochs", "epochs": "epochs",
  "token": "tokens", "tokens": "tokens",
  "row": "rows", "rows": "rows",
}  # fmt: skip
_FORM = re.compile(r"\s*([0-9.][0-9._,]*(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", re.I)


class Duration(NamedTuple):
  """The length of a run: `steps`, or a budget of `seconds`; the other is None.

  Seconds count the loop of all sessions: steps, evaluations and saves, but
  neither the data's preparation nor compilation.
  """

  steps: int | None
  seconds: float | None = None

  @property
  def horizon(self) -> int:
    """The number of steps that the schedule is laid out over."""
    return self.steps if self.steps is not None else TIMED_STEPS

  def schedule_step(self, step: int, elapsed: float) -> int | float:
    """Where the schedule stands after `step` updates and `elapsed` seconds."""
    if self.steps is not None:
      return step
    return min(elapsed / self.seconds, 1.0) * TIMED_STEPS

  def over(self, step: int, elapsed: float) -> bool:
    """Whether the run is at its end."""
    if self.steps is not None:
      return step >= self.steps
    return elapsed >= self.seconds


def resolve(
  value: int | float | str, *, rows: int, batch_size: int, row_tokens: int
) -> Duration:
  """The duration that `config.steps` asks for.

  Args:
    value: a number of steps, or text: "3 epochs", "1e9 tokens", "500 rows",
      "24h", "90 min", "30 s". Epochs, tokens and rows round up to steps.
    rows: rows of an epoch.
    batch_size: rows of an update.
    row_tokens: tokens of a row, padding included.

  Raises:
    UserError: it is none of these, or not above zero.
  """
  match = _FORM.fullmatch(str(value)) if not isinstance(value, bool) else None
  amount = _number(match.group(1)) if match else None
  unit = match.group(2).lower() if match else ""
  if amount is None or not 0 < amount < math.inf:
    raise errors.UserError(
      f"config.steps is {value!r}, expected a number of steps above 0, or "
      "such as '3 epochs', '1e9 tokens', '24h', '90 min'."
    )
  if unit in _SECONDS:
    return Duration(None, amount * _SECONDS[unit])
  if unit not in _COUNTS:
    raise errors.unknown(
      f"config.steps is {value!r}, which has an unknown unit,",
      unit,
      [name for name in (*_COUNTS, *_SECONDS) if name],
    )
  each = {
    "steps": 1,
    "rows": 1 / batch_size,
    "epochs": rows / batch_size,
    "tokens": 1 / (row_tokens * batch_size),
  }[_COUNTS[unit]]
  # The small share forgives the rounding of the division above.
  steps = math.ceil(amount * each * (1 - 1e-12))
  if unit in ("", "step", "steps") and steps != amount:
    raise errors.UserError(
      f"config.steps is {value!r}, expected a whole number of steps."
    )
  return Duration(max(steps, 1))


def build_schedule(
  spec: Mapping[str, Any], learning_rate: float, duration: Duration
) -> Callable:
  """The schedule of a run, from `config.schedule` and the peak rate.

  Raises:
    UserError: an unknown kind or field, a value out of range, or a length in
      steps in a run that is measured in time.
  """
  if duration.steps is None:
    for name in ("warmup", "decay"):
      if spec.get(name, 0) >= 1:
        raise errors.UserError(
          f"config.schedule.{name} is {spec[name]} steps, but config.steps is "
          f"a time: give {name} as a share of the run, below 1."
        )
  return schedules.build(
    spec, learning_rate=learning_rate, steps=duration.horizon
  )


def _number(text: str) -> float | None:
  try:
    return float(text.replace("_", "").replace(",", ""))
  except ValueError:
    return None
