"""Masked LM and a second cross-entropy at once."""

from typing import ClassVar

import jax.numpy as jnp

from jaxlm.objectives import base
from jaxlm.types import Outcome


class BesideMaskedLM:
  """Means of both; a subclass is a frozen dataclass with the second's name.

  Its field of that name holds the coefficient.

  Attributes:
    second: name of the second term, of its head and of the field.
    labels, label_weights: keys of the batch that the second term reads.
  """

  second: ClassVar[str]
  labels: ClassVar[str]
  label_weights: ClassVar[str]
  keeps_updates = True

  @property
  def heads(self):
    """Names of the heads that are read."""
    return ("masked_lm", self.second)

  @property
  def coefficients(self):
    """Factor of each term."""
    return {self.second: getattr(self, self.second)}

  def weights(self, batch):
    """Numbers of predictions of both terms."""
    return {
      "masked_lm": jnp.sum(batch["predict_weights"]),
      self.second: jnp.sum(batch[self.label_weights]),
    }

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    tokens, metrics = base.token_terms(
      base.output(outputs, "masked_lm"),
      batch["predict_ids"],
      batch["predict_weights"],
    )
    others, right = base.token_terms(
      base.output(outputs, self.second),
      batch[self.labels],
      batch[self.label_weights],
    )
    metrics[f"{self.second}_accuracy"] = right["accuracy"]
    sums = {"masked_lm": tokens, self.second: others}
    return Outcome(sums, metrics, base.updates(outputs))
