"""Linear decay (Devlin et al., arXiv:1810.04805)."""

from jaxlm.schedules import _parts, schedules


@schedules.register("linear", paper="arXiv:1810.04805")
def linear(
  learning_rate: float, steps: int, warmup: float = 0.0, final: float = 0.0
):
  """Warm-up from 0, then a line that meets `final` of the peak at `steps`.

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
    return 1.0 - (1.0 - final) * _parts.share(elapsed, steps - rise)

  return _parts.warmed(learning_rate, rise, after)
