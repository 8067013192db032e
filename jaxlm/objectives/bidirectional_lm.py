"""Language modelling in both directions (Peters et al., arXiv:1802.05365)."""

import dataclasses

import jax.numpy as jnp

from jaxlm import context
from jaxlm.objectives import base, objectives
from jaxlm.types import Outcome


@objectives.register("bidirectional_lm", paper="arXiv:1802.05365")
@dataclasses.dataclass(frozen=True)
class BidirectionalLM:
  """Mean cross-entropy of the next token and of the one before.

  Reads `inputs`, `targets` and `weights` [batch, length], already shifted,
  and `segments`: nothing is predicted across the border of two documents.
  """

  head = "bidirectional_lm"
  needs = ("neighbours",)
  features = ("targets", "weights")
  coefficients = {}

  def weights(self, batch):
    """Number of tokens that have one before them, and one behind."""
    return {"bidirectional_lm": jnp.sum(answers(batch)[1])}

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    logits = base.output(outputs, self.head)
    labels, weights = answers(batch)
    loss, metrics = base.token_terms(logits, labels, weights)
    nats = base.cross_entropy(logits, labels) * weights
    for place, name in enumerate(("forward_loss", "backward_loss")):
      own = nats[..., place], weights[..., place]
      metrics[name] = (jnp.sum(own[0]), jnp.sum(own[1]))
    return Outcome({"bidirectional_lm": loss}, metrics)


def answers(batch):
  """ids and weights [batch, length, 2]; see `context.neighbours`."""
  return context.neighbours(batch, directions=2)
