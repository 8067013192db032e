"""SIGTERM and Ctrl-C ask for a stop, and all processes stop at one step."""

import signal
import threading

import jax
import numpy as np

_NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "SIGINT"}


class Stop:
  """While entered, notes SIGTERM and the first Ctrl-C instead of dying.

  A second Ctrl-C interrupts at once. Outside the main thread, where Python
  allows no handlers, it notes nothing.

  Attributes:
    requested: the name of the signal that came, or None.
  """

  def __init__(self):
    self.requested: str | None = None
    self._before = {}

  def __enter__(self) -> "Stop":
    if threading.current_thread() is threading.main_thread():
      for number in _NAMES:
        self._before[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *error) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number, frame) -> None:
    if number == signal.SIGINT and self.requested:
      raise KeyboardInterrupt
    self.requested = _NAMES[number]


def agree(requested: bool, elapsed: float) -> tuple[bool, float]:
  """Whether any process was asked to stop, and process 0's elapsed seconds.

  All processes call it at the same step and get the same answer, so that
  none waits for one that has left.
  """
  if jax.process_count() == 1:
    return requested, elapsed
  from jax.experimental import multihost_utils

  mine = np.array([float(requested), elapsed])
  every = multihost_utils.process_allgather(mine)
  return bool(every[:, 0].any()), float(every[0, 1])
