"""SpanBERT's objectives: masked LM, and hidden spans from what is around."""

import dataclasses
from typing import ClassVar

from jaxlm.objectives import objectives
from jaxlm.objectives._beside_masked_lm import BesideMaskedLM


@objectives.register("masked_lm_span_boundary", paper="arXiv:1907.10529")
@dataclasses.dataclass(frozen=True)
class MaskedLMSpanBoundary(BesideMaskedLM):
  """Masked LM plus the span boundary objective, means over their tokens.

  Reads what masked LM reads, and `boundary_positions` [batch, p, 2],
  `boundary_offsets` and `boundary_weights` [batch, p], which masking gives
  where `data.corruption.boundaries` is set; the heads `masked_lm` and
  `span_boundary`.

  Attributes:
    span_boundary: coefficient of the second term.
  """

  span_boundary: float = 1.0
  second: ClassVar[str] = "span_boundary"
  labels: ClassVar[str] = "predict_ids"
  label_weights: ClassVar[str] = "boundary_weights"
  features = (
    "predict_positions",
    "predict_ids",
    "predict_weights",
    "boundary_positions",
    "boundary_offsets",
    "boundary_weights",
  )
