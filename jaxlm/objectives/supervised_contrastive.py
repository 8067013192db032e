"""Cross-entropy and classes told apart (Gunel et al., arXiv:2011.01403)."""

import dataclasses

import jax.numpy as jnp

from jaxlm import errors
from jaxlm.objectives import base, contrast, objectives
from jaxlm.types import Outcome


@objectives.register("supervised_contrastive", paper="arXiv:2011.01403")
@dataclasses.dataclass(frozen=True)
class SupervisedContrastive:
  """(1 - share) times cross-entropy, share times SupCon of the states.

  The contrast is of the normalised states at `cls_positions`, in front of the
  head. The paper sums over anchors; here it is the mean over those that have
  another of their class in the batch, so `data.balanced=True` and a batch of
  twice the classes or more leave none without. Items of other devices count,
  those of other microbatches do not.

  Attributes:
    share: of the contrast, the paper's lambda, grid 0.1 to 1.
    temperature: divides cosines, grid 0.1 to 0.7.
    head: the head whose logits are read.
  """

  share: float = 0.9
  temperature: float = 0.3
  head: str = "classify"
  features = ("labels", "label_weights", "cls_positions")

  def __post_init__(self):
    if not 0 <= self.share <= 1:
      raise errors.UserError(
        f"config.objective.share is {self.share}; it lies from 0 to 1."
      )
    if not self.temperature > 0:
      raise errors.UserError(
        f"config.objective.temperature is {self.temperature}; it is above 0."
      )

  @property
  def coefficients(self):
    """Factor of each term."""
    if not self.share:
      return {}
    return {"classification": 1.0 - self.share, "contrast": self.share}

  def weights(self, batch):
    """Numbers of labelled sentences, and of those that have a positive."""
    found = {"classification": jnp.sum(batch["label_weights"])}
    if self.share:
      labels, real = _flat(batch)
      pairs = contrast.positives(labels, real)
      found["contrast"] = jnp.sum(jnp.any(pairs, axis=1))
    return found

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    logits = base.output(outputs, self.head)
    loss, metrics = base.token_terms(
      logits, batch["labels"], batch["label_weights"]
    )
    sums = {"classification": loss}
    if self.share:
      places = batch["cls_positions"][..., None]
      states = jnp.take_along_axis(outputs["hidden"], places, axis=1)
      states = states.reshape(-1, states.shape[-1])
      apart = contrast.of_classes(states, *_flat(batch), self.temperature)
      sums["contrast"] = jnp.sum(apart)
    return Outcome(sums, metrics)


def _flat(batch):
  """Labels and weights of all sentences, [batch * k]."""
  return batch["labels"].reshape(-1), batch["label_weights"].reshape(-1)
