"""What contrasts beside a masked LM share."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.objectives import base
from jaxlm.types import Outcome

_READ = ("cls_positions", "view_weights")
_PREDICTED = ("predict_positions", "predict_ids", "predict_weights")


@dataclasses.dataclass(frozen=True)
class Contrastive:
  """Vectors told apart, and perhaps a masked LM.

  Attributes:
    temperature: divides cosines.
    masked_lm: coefficient of the masked LM; 0: none.
    head: name of the head that gives the vectors.
  """

  temperature: float = 0.05
  masked_lm: float = 0.0
  head: str = "embed"

  def __post_init__(self):
    if not self.temperature > 0:
      raise errors.UserError(
        f"config.objective.temperature is {self.temperature}; it is above 0."
      )
    if self.masked_lm < 0:
      raise errors.UserError(
        f"config.objective.masked_lm is {self.masked_lm}; it is at least 0."
      )

  @property
  def heads(self):
    """Names of the heads that are read."""
    return (self.head, "masked_lm") if self.masked_lm else (self.head,)

  @property
  def features(self):
    """Keys of the batch that are read."""
    return _READ + _PREDICTED if self.masked_lm else _READ

  @property
  def coefficients(self):
    """Factor of each term."""
    return {"masked_lm": self.masked_lm} if self.masked_lm else {}


def by_group(views, weights):
  """Vectors of a batch, and which count, a row for each group.

  Args:
    views: [batch, groups * k, width].
    weights: [batch, groups, k].

  Returns:
    [batch * groups, k, width] and [batch * groups, k].
  """
  rows, groups, kinds = weights.shape
  views = views.reshape(rows * groups, kinds, views.shape[-1])
  return views, weights.reshape(rows * groups, kinds)


@dataclasses.dataclass(frozen=True)
class OfViews(Contrastive):
  """The contrast of a row's views, and a masked view in a second pass.

  A subclass says by `_contrast` how views are told apart.
  """

  @property
  def features(self):
    """Keys of the batch that are read."""
    return super().features + (("corrupted_inputs",) if self.masked_lm else ())

  @property
  def passes(self) -> int:
    """How often a step runs the model."""
    return 2 if self.masked_lm else 1

  def weights(self, batch):
    """Numbers of anchors, and of tokens to predict."""
    found = {"contrast": jnp.sum(batch["view_weights"][..., 1] > 0)}
    if self.masked_lm:
      found["masked_lm"] = jnp.sum(batch["predict_weights"])
    return found

  def __call__(self, model, variables, batch, key, *, train):
    keys = (None, None) if key is None else jax.random.split(key)
    outputs = base.apply(model, variables, batch, keys[0], train=train)
    views = base.output(outputs, self.head)
    loss, metrics = self._contrast(*by_group(views, batch["view_weights"]))
    sums = {"contrast": loss}
    if self.masked_lm:
      said = self._masked(model, variables, batch, keys[1], train)
      sums["masked_lm"], metrics["accuracy"] = said
    return Outcome(sums, metrics)

  def _masked(self, model, variables, batch, key, train):
    """Loss and accuracy of the masked view."""
    read = ("inputs", "segments", "positions")
    masked = {
      name: batch.get(f"corrupted_{name}", batch[name]) for name in read
    }
    masked = {**batch, **masked}
    outputs = base.apply(model, variables, masked, key, train=train)
    loss, metrics = base.token_terms(
      base.output(outputs, "masked_lm"),
      batch["predict_ids"],
      batch["predict_weights"],
    )
    return loss, metrics["accuracy"]
