"""Sentence-level objectives: a class or a score for each sentence."""

import dataclasses

import jax.numpy as jnp

from jaxlm.objectives import base, objectives
from jaxlm.types import Outcome


@objectives.register("classification", paper="arXiv:1810.04805")
@dataclasses.dataclass(frozen=True)
class Classification:
  """Mean cross-entropy over labelled sentences.

  Reads `labels` int32 and `label_weights` [batch, k].

  Attributes:
    head: the head whose logits are read.
  """

  head: str = "classify"
  features = ("labels", "label_weights")
  coefficients = {}

  def weights(self, batch):
    """Number of labelled sentences."""
    return {"classification": jnp.sum(batch["label_weights"])}

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    logits = base.output(outputs, self.head)
    loss, metrics = base.token_terms(
      logits, batch["labels"], batch["label_weights"]
    )
    return Outcome({"classification": loss}, metrics)


@objectives.register("regression", paper="arXiv:1810.04805")
@dataclasses.dataclass(frozen=True)
class Regression:
  """Mean squared error over scored sentences.

  Reads `labels` float32 and `label_weights` [batch, k].

  Attributes:
    head: the head whose first output is read.
  """

  head: str = "regress"
  features = ("labels", "label_weights")
  coefficients = {}

  def weights(self, batch):
    """Number of scored sentences."""
    return {"regression": jnp.sum(batch["label_weights"])}

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    scores = base.output(outputs, self.head)[..., 0]
    errors = jnp.square(scores - batch["labels"]) * batch["label_weights"]
    return Outcome({"regression": jnp.sum(errors)}, {})


@objectives.register("tagging", paper="arXiv:1810.04805")
@dataclasses.dataclass(frozen=True)
class Tagging:
  """Mean cross-entropy over tagged tokens (the first piece of each word).

  Reads `tags` int32 and `tag_weights` [batch, length].
  """

  head = "tag"
  features = ("tags", "tag_weights")
  coefficients = {}

  def weights(self, batch):
    """Number of tagged tokens."""
    return {"tagging": jnp.sum(batch["tag_weights"])}

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    logits = base.output(outputs, self.head)
    loss, metrics = base.token_terms(
      logits, batch["tags"], batch["tag_weights"]
    )
    return Outcome({"tagging": loss}, metrics)
