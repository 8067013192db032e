"""SpanBERT's objectives: masked LM, and hidden spans from what is around."""

import dataclasses

import jax.numpy as jnp

from jaxlm.objectives import base, objectives
from jaxlm.types import Outcome


@objectives.register("masked_lm_span_boundary", paper="arXiv:1907.10529")
@dataclasses.dataclass(frozen=True)
class MaskedLMSpanBoundary:
  """Masked LM plus the span boundary objective, means over their tokens.

  Reads what masked LM reads, and `boundary_positions` [batch, p, 2],
  `boundary_offsets` and `boundary_weights` [batch, p], which masking gives
  where `data.corruption.boundaries` is set; the heads `masked_lm` and
  `span_boundary`.

  Attributes:
    span_boundary: coefficient of the second term.
  """

  span_boundary: float = 1.0
  keeps_updates = True
  features = (
    "predict_positions",
    "predict_ids",
    "predict_weights",
    "boundary_positions",
    "boundary_offsets",
    "boundary_weights",
  )

  @property
  def coefficients(self):
    """Factor of each term."""
    return {"span_boundary": self.span_boundary}

  def weights(self, batch):
    """Numbers of tokens to predict, all and those inside a text."""
    return {
      "masked_lm": jnp.sum(batch["predict_weights"]),
      "span_boundary": jnp.sum(batch["boundary_weights"]),
    }

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    tokens, metrics = base.token_terms(
      base.output(outputs, "masked_lm"),
      batch["predict_ids"],
      batch["predict_weights"],
    )
    spans, right = base.token_terms(
      base.output(outputs, "span_boundary"),
      batch["predict_ids"],
      batch["boundary_weights"],
    )
    metrics["span_boundary_accuracy"] = right["accuracy"]
    sums = {"masked_lm": tokens, "span_boundary": spans}
    return Outcome(sums, metrics, base.updates(outputs))
