"""What schedules share: lengths as steps or shares, and the warm-up."""

from collections.abc import Callable

import jax.numpy as jnp

from jaxlm import errors


def span(name: str, value: float, steps: int) -> float:
  """A length in steps: below 1, `value` is a share of `steps`.

  Raises:
    UserError: it is negative, or longer than the run.
  """
  length = value * steps if value < 1 else value
  if value < 0 or length > steps:
    raise errors.UserError(
      f"config.schedule.{name} is {value!r}, expected a share of the run "
      f"(0 <= share < 1) or a number of steps up to its {steps}."
    )
  return float(length)


def check(learning_rate: float, steps: int, final: float = 0.0) -> None:
  """Raises UserError for a rate, length or final share out of range."""
  if not learning_rate >= 0:
    raise errors.UserError(
      f"config.optimizer.learning_rate is {learning_rate!r}, expected 0 or "
      "more."
    )
  if steps < 1:
    raise errors.UserError(f"config.steps is {steps!r}, expected 1 or more.")
  if not 0 <= final <= 1:
    raise errors.UserError(
      f"config.schedule.final is {final!r}, expected a share of the peak "
      "learning rate, from 0 to 1."
    )


def warmed(learning_rate: float, warmup: float, after: Callable) -> Callable:
  """A schedule that rises linearly from 0 and then follows `after`.

  Args:
    learning_rate: the peak.
    warmup: steps of the rise; step `warmup` is the first at the peak.
    after: steps since the peak, float32 -> factor of the peak.
  """

  def schedule(step):
    step = jnp.asarray(step, jnp.float32)
    rise = step / max(warmup, 1.0)
    factor = jnp.where(step < warmup, rise, after(step - warmup))
    return jnp.float32(learning_rate) * factor

  return schedule


def share(elapsed, length: float):
  """elapsed / length within [0, 1]; 1 where the length is 0."""
  if length <= 0:
    return jnp.ones_like(elapsed)
  return jnp.clip(elapsed / length, 0.0, 1.0)
