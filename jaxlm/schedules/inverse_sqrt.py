"""One over the square root of the step (Vaswani et al., arXiv:1706.03762)."""

import jax.numpy as jnp

from jaxlm.schedules import _parts, schedules


@schedules.register("inverse_sqrt", paper="arXiv:1706.03762")
def inverse_sqrt(
  learning_rate: float,
  steps: int,
  warmup: float = 0.0,
  cooldown: float = 0.0,
):
  """Warm-up from 0 to the peak, then peak * sqrt(warmup / step).

  Args:
    learning_rate: the peak, at the end of the warm-up.
    steps: length of the run.
    warmup: a share of the run below 1, else steps; at least one step counts.
    cooldown: length of a line to 0 at the end, likewise (T5's and others'
      runs that end well).

  Raises:
    UserError: a value out of range.
  """
  _parts.check(learning_rate, steps)
  rise = _parts.span("warmup", warmup, steps)
  fall = _parts.span("cooldown", cooldown, steps)
  first = max(rise, 1.0)

  def after(elapsed):
    # Without a warm-up, step 0 is at the peak too.
    root = jnp.sqrt(first / jnp.maximum(elapsed + rise, first))
    start = steps - rise - fall
    line = 1.0 - _parts.share(elapsed - start, fall) if fall else 1.0
    return root * line

  return _parts.warmed(learning_rate, rise, after)
