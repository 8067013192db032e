"""Masked language modelling (Devlin et al., arXiv:1810.04805)."""

import dataclasses

import jax.numpy as jnp

from jaxlm.objectives import base, objectives
from jaxlm.types import Outcome


@objectives.register("masked_lm", paper="arXiv:1810.04805")
@dataclasses.dataclass(frozen=True)
class MaskedLM:
  """Mean cross-entropy over the tokens to predict.

  Reads `predict_positions`, `predict_ids`, `predict_weights` [batch, p].
  """

  head = "masked_lm"
  keeps_updates = True
  features = ("predict_positions", "predict_ids", "predict_weights")
  coefficients = {}

  def weights(self, batch):
    """Number of tokens to predict."""
    return {"masked_lm": jnp.sum(batch["predict_weights"])}

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    logits = base.output(outputs, self.head)
    loss, metrics = base.token_terms(
      logits, batch["predict_ids"], batch["predict_weights"]
    )
    return Outcome({"masked_lm": loss}, metrics, base.updates(outputs))
