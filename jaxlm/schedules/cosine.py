"""Cosine decay (Loshchilov and Hutter, arXiv:1608.03983), without restarts."""

import jax.numpy as jnp

from jaxlm.schedules import _parts, schedules


@schedules.register("cosine", paper="arXiv:1608.03983")
def cosine(
  learning_rate: float, steps: int, warmup: float = 0.0, final: float = 0.0
):
  """Warm-up from 0, then half a cosine to `final` of the peak at `steps`.

  Args:
    learning_rate: the peak.
    steps: length of the run.
    warmup: a share of the run below 1, else steps.
    final: factor of the peak at the end.

  Raises:
    UserError: a value out of range.
  """
  _parts.check(learning_rate, steps, final)
  rise = _parts.span("warmup", warmup, steps)

  def after(elapsed):
    angle = jnp.pi * _parts.share(elapsed, steps - rise)
    return final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(angle))

  return _parts.warmed(learning_rate, rise, after)
