"""Units of masking: what is hidden together, and the fields that tell it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlm.errors import UserError, unknown

# kind -> its fields and their defaults.
UNITS: dict[str, dict[str, Any]] = {
  "uniform": {},
  "whole_word": {},
  "span": {"p": 0.2, "longest": 10},
  "ngram": {"longest": 3},
  "pmi": {"vocabulary": ""},
}


def checked(unit) -> dict[str, Any]:
  """A unit with all its fields.

  Raises:
    UserError: an unknown kind or field, or a value out of its range.
  """
  if not isinstance(unit, Mapping) or "kind" not in unit:
    raise UserError(
      f"data.corruption.unit is {unit!r}; give dict(kind=...) with one of "
      f"{', '.join(sorted(UNITS))}."
    )
  kind = unit["kind"]
  if kind not in UNITS:
    raise unknown("data.corruption.unit has no kind", kind, UNITS)
  for name in unit:
    if name != "kind" and name not in UNITS[kind]:
      raise unknown(
        f"data.corruption.unit '{kind}' takes no", name, UNITS[kind]
      )
  full = {"kind": kind} | UNITS[kind] | dict(unit)
  _check_lengths(full)
  if kind == "pmi" and not full["vocabulary"]:
    raise UserError(
      "data.corruption.unit 'pmi' needs its vocabulary: make one with jaxlm "
      "pmi --files=... --out=pmi.tsv, and set "
      "config.data.corruption.unit.vocabulary=pmi.tsv."
    )
  return full


def span_lengths(p: float, longest: int) -> np.ndarray:
  """float64 [longest], the chance of a span of 1, 2, ... words: geometric."""
  chances = p * (1 - p) ** np.arange(longest)
  return chances / chances.sum()


def ngram_lengths(longest: int) -> np.ndarray:
  """float64 [longest], the chance of an n-gram of 1, 2, ... words: 1 / n."""
  chances = 1 / np.arange(1, longest + 1)
  return chances / chances.sum()


def _check_lengths(unit) -> None:
  p, longest = unit.get("p", 0.5), unit.get("longest", 1)
  if not 0 < p < 1 or isinstance(longest, bool) or longest != int(longest):
    raise _out_of_range(p, longest)
  if longest < 1:
    raise _out_of_range(p, longest)


def _out_of_range(p, longest) -> UserError:
  return UserError(
    f"data.corruption.unit has p {p} and longest {longest}; p lies between 0 "
    "and 1, longest is a whole number of at least 1."
  )
