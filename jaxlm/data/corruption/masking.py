"""Masked language modelling: hide some tokens, predict them.

Devlin et al., arXiv:1810.04805; whole words; SpanBERT's spans, Joshi et al.,
arXiv:1907.10529; DeBERTa's n-grams; PMI's collocations, Levine et al.,
arXiv:2010.01825; corruption and prediction rates apart, Wettig et al.,
arXiv:2202.08005. Masks are dynamic: another one at every visit.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxlm import files as io
from jaxlm.data import pmi
from jaxlm.data.corruption import _counts, _units, corruptions
from jaxlm.errors import UserError, unknown


@corruptions.register(
  "masking", paper="arXiv:1810.04805, arXiv:2202.08005", example={"rate": 0.4}
)
@dataclasses.dataclass(frozen=True)
class Masking:
  """Hides a share of the tokens that are not special.

  Where more is predicted than hidden, a row of text becomes several rows of a
  batch, its copies: each hides another part, and together they predict what
  `predict_rate` says (Wettig et al., section 5). They share one permutation
  of the tokens, whose next part each of them takes.

  Attributes:
    rate: share of tokens that are corrupted.
    predict_rate: share that is predicted: of the corrupted ones, or, above
      `rate`, by copies together; None: all that are corrupted.
    unit: what is hidden together: dict(kind="uniform"), "whole_word", "span"
      with `p` and `longest` of its geometric length in words, "ngram" with
      `longest`, or "pmi" with the `vocabulary` that `jaxlm pmi` writes.
    mask, random, keep: shares of the corrupted tokens that become [MASK],
      another token, or stay; they sum to 1. Drawn per token, for spans per
      run of neighbours, for PMI per unit.
    count: how many that is: "exact", "total", "ceil" or "unbiased"
      (`_counts`).
    keep_copies_together: all copies of a row in one update.
    fill_last: the last copy hides as much as the others, and predicts what
      is left; else it hides only that.
    boundaries: where above 0, batches tell what surrounds each hidden span,
      for its first so many tokens (`span_boundary`).
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
  keep_copies_together: bool = True
  fill_last: bool = False
  boundaries: int = 0

  def __post_init__(self):
    _check_rates(self.rate, self.predict_rate)
    _check_mix(self.mask, self.random, self.keep)
    if self.count not in _counts.COUNTS:
      raise unknown("data.corruption has no count", self.count, _counts.COUNTS)
    if isinstance(self.boundaries, bool) or self.boundaries < 0:
      raise UserError(
        f"data.corruption.boundaries is {self.boundaries!r}; it is the number "
        "of tokens of a span, such as 20, or 0 for none."
      )
    object.__setattr__(self, "unit", _units.checked(self.unit))

  @property
  def predicted(self) -> float:
    """The share that is predicted."""
    return self.rate if self.predict_rate is None else self.predict_rate

  def copies(self, length: int) -> int:
    """Rows of a batch that a full row of text becomes, one where it stays."""
    rates = (self.rate, self.predicted)
    return _counts.copies(*rates, length, self.count)

  def text_length(self, length: int) -> int:
    """As many as the model reads."""
    return length

  def most(self, length: int) -> tuple[int, int]:
    """The most tokens of a row that are hidden and that are predicted."""
    rates = (self.rate, self.predicted)
    if self.predicted > self.rate:
      copies = self.copies(length)
      return (_counts.most_of_copy(*rates, length, self.count, copies),) * 2
    return tuple(_counts.most(r, length, self.count) for r in rates)

  def features(self, length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of one row."""
    _, most = self.most(length)
    made = {
      "inputs": ((length,), "int32"),
      "predict_positions": ((most,), "int32"),
      "predict_ids": ((most,), "int32"),
      "predict_weights": ((most,), "float32"),
    }
    if self.boundaries:
      made["boundary_positions"] = ((most, 2), "int32")
      made["boundary_offsets"] = ((most,), "int32")
      made["boundary_weights"] = ((most,), "float32")
    return made

  def files(self) -> dict[str, str]:
    """path -> sha256 of what is read beside the rows.

    Raises:
      UserError: a file that is not there.
    """
    if "vocabulary" not in self.unit:
      return {}
    path = self.unit["vocabulary"]
    pmi.read(path)  # tells what is wrong with it
    return {str(path): io.sha256(path)}

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


def _check_mix(mask, random, keep) -> None:
  shares = (mask, random, keep)
  if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
    raise UserError(
      f"data.corruption mask, random and keep are {mask}, {random} and "
      f"{keep}; they are shares and sum to 1, not {sum(shares):g}."
    )
