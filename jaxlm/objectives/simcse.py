"""SimCSE: sentences told apart (Gao et al., arXiv:2104.08821)."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.objectives import base, contrast, objectives
from jaxlm.types import Outcome

_MASKED = (
  "corrupted_inputs",
  "predict_positions",
  "predict_ids",
  "predict_weights",
)


@objectives.register("simcse", paper="arXiv:2104.08821")
@dataclasses.dataclass(frozen=True)
class SimCSE:
  """Each sentence finds its positive among those of the whole batch.

  The data `sentences` pack the texts of a row: a sentence twice, whose copies
  differ by dropout (unsupervised), or premise, entailment and contradiction
  (supervised). All run in one pass, so no two share a dropout mask. The head
  gives a vector for each. As in the release, candidates are found in one
  direction, and a hard negative's weight is that of its own anchor alone.
  Negatives are those of all devices; of a microbatch they are fewer, so leave
  config.microbatches at 1.

  Attributes:
    temperature: divides cosines.
    hard_negative_weight: added to the score of a row's own hard negatives;
      0 counts them like others (the release's default).
    masked_lm: coefficient of a masked LM on a masked view of the same rows
      (`data.masking`), which costs a second pass; 0: none. Published 0.1.
    head: name of the head.
  """

  temperature: float = 0.05
  hard_negative_weight: float = 0.0
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
  def features(self):
    """Keys of the batch that are read."""
    read = ("cls_positions", "view_weights")
    return read + _MASKED if self.masked_lm else read

  @property
  def coefficients(self):
    """Factor of each term."""
    return {"masked_lm": self.masked_lm} if self.masked_lm else {}

  @property
  def passes(self) -> int:
    """How often a step runs the model."""
    return 2 if self.masked_lm else 1

  def weights(self, batch):
    """Numbers of anchors, and of tokens to predict."""
    found = {"contrast": jnp.sum(batch["view_weights"][:, 1] > 0)}
    if self.masked_lm:
      found["masked_lm"] = jnp.sum(batch["predict_weights"])
    return found

  def __call__(self, model, variables, batch, key, *, train):
    keys = (None, None) if key is None else jax.random.split(key)
    outputs = base.apply(model, variables, batch, keys[0], train=train)
    views = base.output(outputs, self.head)
    loss, metrics = self._contrast(views, batch["view_weights"])
    sums = {"contrast": loss}
    if self.masked_lm:
      said = self._masked(model, variables, batch, keys[1], train)
      sums["masked_lm"], metrics["accuracy"] = said
    return Outcome(sums, metrics)

  def _contrast(self, views, there):
    """Summed loss and metrics of views [rows, k, width]."""
    loss, best, cosine = contrast.candidates(
      views[:, 0],
      views[:, 1:],
      there[:, 1:],
      self.temperature,
      self.hard_negative_weight,
    )
    count = jnp.sum(there[:, 1] > 0)
    return jnp.sum(loss), {
      "found": (jnp.sum(best), count),
      "positive_cosine": (jnp.sum(cosine), count),
    }

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
