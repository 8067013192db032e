"""Metrics between two log lines: fetched when somebody asks, not each step."""

from collections.abc import Mapping

import jax
import numpy as np

# Steps that may wait on the device.
LEAD = 16
# Not means: counted, or said of the last step.
_COUNTED = ("tokens",)
_LAST = ("learning_rate", "step", "finite")


class NonFinite(Exception):
  """The loss, a gradient or a parameter is not finite.

  Attributes:
    step: the step whose batch did it.
  """

  def __init__(self, step: int):
    super().__init__(f"non-finite at step {step}")
    self.step = step


class Meter:
  """Collects the device metrics of steps.

  Attributes:
    tokens: real tokens of all steps that were settled.
  """

  def __init__(self, tokens: int = 0):
    self.tokens = tokens
    self._pending: list[tuple[int, Mapping]] = []
    self._settled: list[Mapping] = []

  def add(self, step: int, metrics: Mapping) -> None:
    """Notes the metrics of `step` without waiting for them."""
    self._pending.append((step, metrics))
    if len(self._pending) > LEAD:
      # Long done unless the device lags: bounds what waits in its queue, so
      # that memory stays small and a signal is answered soon.
      jax.block_until_ready(self._pending[-LEAD][1])

  def settle(self) -> None:
    """Waits for all steps so far.

    Raises:
      NonFinite: one of them was not finite.
    """
    pending, self._pending = self._pending, []
    values = jax.device_get([metrics for _, metrics in pending])
    for (step, _), metrics in zip(pending, values):
      if not metrics["finite"]:
        raise NonFinite(step)
      self.tokens += int(metrics["tokens"])
      self._settled.append(metrics)

  def read(self) -> dict[str, float]:
    """Means over the steps since the last reading, {} if there were none.

    `tokens` is the sum over them, `learning_rate` that of the last.

    Raises:
      NonFinite: one of them was not finite.
    """
    self.settle()
    settled, self._settled = self._settled, []
    if not settled:
      return {}
    result = {}
    for name in settled[-1]:
      values = np.asarray([metrics[name] for metrics in settled], np.float64)
      if name in _COUNTED:
        result[name] = float(values.sum())
      elif name in _LAST:
        result[name] = float(values[-1])
      else:
        result[name] = float(values.mean())
    del result["finite"], result["step"]
    return result
