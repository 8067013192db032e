"""Causal language modelling: each token from those before it (GPT-2)."""

import dataclasses

import jax.numpy as jnp

from jaxlm.objectives import base, objectives
from jaxlm.types import Outcome


@objectives.register("causal_lm", paper="Radford et al. 2019, GPT-2")
@dataclasses.dataclass(frozen=True)
class CausalLM:
  """Mean cross-entropy of the next token.

  Reads `targets` and `weights` [batch, length], already shifted.
  """

  head = "causal_lm"
  needs = ("next_token",)
  features = ("targets", "weights")
  coefficients = {}

  def weights(self, batch):
    """Number of tokens that have one before them."""
    return {"causal_lm": jnp.sum(batch["weights"])}

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    logits = base.output(outputs, self.head)
    loss, metrics = base.token_terms(logits, batch["targets"], batch["weights"])
    return Outcome({"causal_lm": loss}, metrics)
