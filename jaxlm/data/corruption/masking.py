"""Masked language modelling: hide some tokens, predict them.

Devlin et al., arXiv:1810.04805; whole words; SpanBERT's spans, Joshi et al.,
arXiv:1907.10529; corruption and prediction rates apart, Wettig et al.,
arXiv:2202.08005. Masks are dynamic: another one at every visit.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlm.data.corruption import _counts, corruptions
from jaxlm.errors import UserError, unknown

_UNITS = {"uniform": {}, "whole_word": {}, "span": {"p": 0.2, "longest": 10}}


@corruptions.register("masking", paper="arXiv:1810.04805, arXiv:2202.08005")
@dataclasses.dataclass(frozen=True)
class Masking:
  """Hides a share of the tokens that are not special.

  Attributes:
    rate: share of tokens that are corrupted.
    predict_rate: share that is predicted, of the corrupted ones; None: all.
    unit: what is hidden together: dict(kind="uniform"), "whole_word", or
      "span" with `p` and `longest` of its geometric length in words.
    mask, random, keep: shares of the corrupted tokens that become [MASK],
      another token, or stay; they sum to 1. Drawn per token, for spans per
      run of neighbours.
    count: how many that is: "exact", "total", "ceil" or "unbiased"
      (`_counts`).
  """

  rate: float = 0.15
  predict_rate: float | None = None
  unit: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"kind": "uniform"}
  )
  mask: float = 0.8
  random: float = 0.1
  keep: float = 0.1
  count: str = "exact"

  def __post_init__(self):
    _check_rates(self.rate, self.predict_rate)
    _check_mix(self.mask, self.random, self.keep)
    if self.count not in _counts.COUNTS:
      raise unknown("data.corruption has no count", self.count, _counts.COUNTS)
    object.__setattr__(self, "unit", _checked_unit(self.unit))

  @property
  def predicted(self) -> float:
    """The share that is predicted."""
    return self.rate if self.predict_rate is None else self.predict_rate

  @property
  def span_lengths(self) -> np.ndarray:
    """float64 [longest], the chance of a span of 1, 2, ... words."""
    p, longest = self.unit["p"], self.unit["longest"]
    chances = p * (1 - p) ** np.arange(longest)
    return chances / chances.sum()

  def text_length(self, length: int) -> int:
    """As many as the model reads."""
    return length

  def features(self, length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of one row."""
    most = _counts.most(self.predicted, length, self.count)
    return {
      "inputs": ((length,), "int32"),
      "predict_positions": ((most,), "int32"),
      "predict_ids": ((most,), "int32"),
      "predict_weights": ((most,), "float32"),
    }

  def bind(self, tokenizer, length: int):
    """`apply(rows, keys) -> features`, TensorFlow ops.

    Raises:
      UserError: a vocabulary without a mask token, or without a token that
        could replace another.
    """
    from jaxlm.data.corruption import _masking

    if self.random > 0 and not len(tokenizer.random_pool):
      raise UserError(
        "data.corruption.random wants other tokens, and the tokenizer has "
        "none but special ones."
      )
    return _masking.bind(self, tokenizer, length)


def _check_rates(rate, predict_rate) -> None:
  for name, value in (("rate", rate), ("predict_rate", predict_rate)):
    if value is None:
      continue
    if isinstance(value, bool) or not isinstance(value, int | float):
      raise UserError(
        f"data.corruption.{name} is {value!r}; it is a share such as 0.15."
      )
    if not 0 < value <= 1:
      raise UserError(
        f"data.corruption.{name} is {value}; a share lies above 0 and up to "
        "1. A row without masks is dict(kind='none')."
      )
  if predict_rate is not None and predict_rate > rate:
    raise UserError(
      f"data.corruption.predict_rate is {predict_rate}, above the rate of "
      f"{rate}: one row can only predict what it hides. More takes copies of "
      "the row with disjoint masks (Wettig et al., arXiv:2202.08005, section "
      "5), which 'masking' does not make; raise data.corruption.rate."
    )


def _check_mix(mask, random, keep) -> None:
  shares = (mask, random, keep)
  if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
    raise UserError(
      f"data.corruption mask, random and keep are {mask}, {random} and "
      f"{keep}; they are shares and sum to 1, not {sum(shares):g}."
    )


def _checked_unit(unit) -> dict[str, Any]:
  if not isinstance(unit, Mapping) or "kind" not in unit:
    raise UserError(
      f"data.corruption.unit is {unit!r}; give dict(kind=...) with one of "
      f"{', '.join(sorted(_UNITS))}."
    )
  kind = unit["kind"]
  if kind not in _UNITS:
    raise unknown("data.corruption.unit has no kind", kind, _UNITS)
  for name in unit:
    if name != "kind" and name not in _UNITS[kind]:
      raise unknown(
        f"data.corruption.unit '{kind}' takes no", name, _UNITS[kind]
      )
  full = {"kind": kind} | _UNITS[kind] | dict(unit)
  if kind == "span" and not (0 < full["p"] < 1 and full["longest"] >= 1):
    raise UserError(
      f"data.corruption.unit has p {full['p']} and longest "
      f"{full['longest']}; p lies between 0 and 1, longest is at least 1."
    )
  return full
