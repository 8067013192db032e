"""A constant learning rate after an optional warm-up."""

import jax.numpy as jnp

from jaxlm.schedules import _parts, schedules


@schedules.register("constant")
def constant(learning_rate: float, steps: int, warmup: float = 0.0):
  """Rises from 0 over `warmup` (a share below 1, else steps), then stays.

  Raises:
    UserError: a value out of range.
  """
  _parts.check(learning_rate, steps)
  rise = _parts.span("warmup", warmup, steps)
  return _parts.warmed(learning_rate, rise, jnp.ones_like)
