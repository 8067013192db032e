"""Numbers as people read them."""

import math
from typing import Any

_MINUS, _NONE = "\u2212", "\u2013"


def text(value: Any, digits: int = 4) -> str:
  """A value in a table: 1,234,567 and 0.1235 and 1.5e+12; a dash for None.

  Args:
    value: anything; what is no number is shown by `str`.
    digits: significant digits of a float. Whole numbers keep all of theirs.
  """
  if value is None:
    return _NONE
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    return _of_array(value, digits)
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  if isinstance(value, int):
    written = f"{value:,}"
  elif value and not 1e-4 <= abs(value) < 1e9:
    written = f"{value:.{digits - 1}e}"
  elif abs(value) >= 10 ** (digits - 1):
    written = f"{value:,.0f}"
  else:
    written = f"{value:.{digits}g}"
  return written.replace("-", _MINUS, 1) if value < 0 else written


def with_error(value: float, error: float | None, digits: int = 3) -> str:
  """0.67 and 0.02 as '0.670 ± 0.020'."""
  shown = f"{value:.{digits}f}"
  return shown if error is None else f"{shown} \u00b1 {error:.{digits}f}"


def _of_array(value, digits) -> str:
  """numpy and jax scalars are read as Python's numbers."""
  if hasattr(value, "item") and getattr(value, "size", 1) == 1:
    return text(value.item(), digits)
  return str(value)
