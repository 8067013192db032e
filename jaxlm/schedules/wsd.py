"""Warm-up, stable, decay (Hu et al., MiniCPM, arXiv:2404.06395).

The decay may be a line or 1 - sqrt (Haegele et al., arXiv:2405.18392), which
ModernBERT (arXiv:2412.13663) uses.
"""

import jax.numpy as jnp

from jaxlm import errors
from jaxlm.schedules import _parts, schedules

_SHAPES = {"linear": lambda x: x, "sqrt": jnp.sqrt}


@schedules.register("wsd", paper="arXiv:2404.06395")
def wsd(
  learning_rate: float,
  steps: int,
  warmup: float = 0.0,
  decay: float = 0.1,
  final: float = 0.0,
  shape: str = "linear",
):
  """Warm-up from 0, the peak, then a decay over the last part of the run.

  Args:
    learning_rate: the peak.
    steps: length of the run.
    warmup: a share of the run below 1, else steps.
    decay: length of the decay, likewise.
    final: factor of the peak at the end.
    shape: `linear` or `sqrt` (1 - sqrt of the share of the decay that is
      over).

  Raises:
    UserError: a value out of range, or warm-up and decay that overlap.
  """
  _parts.check(learning_rate, steps, final)
  rise = _parts.span("warmup", warmup, steps)
  fall = _parts.span("decay", decay, steps)
  if shape not in _SHAPES:
    raise errors.unknown("config.schedule.shape has no", shape, _SHAPES)
  if rise + fall > steps:
    raise errors.UserError(
      f"config.schedule: warm-up ({rise:g} steps) and decay ({fall:g} steps) "
      f"are longer than the run's {steps} steps."
    )

  def after(elapsed):
    start = steps - rise - fall
    x = _parts.share(elapsed - start, fall) if fall else jnp.zeros_like(elapsed)
    return 1.0 - (1.0 - final) * _SHAPES[shape](x)

  return _parts.warmed(learning_rate, rise, after)
