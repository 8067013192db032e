"""DeCLUTR: masked LM and spans of a document (arXiv:2006.03659)."""

import dataclasses

import jax.numpy as jnp

from jaxlm.objectives import base, contrast, objectives
from jaxlm.objectives._contrastive import Contrastive, by_group
from jaxlm.types import Outcome


@objectives.register("declutr", paper="arXiv:2006.03659")
@dataclasses.dataclass(frozen=True)
class DeCLUTR(Contrastive):
  """A span finds the mean of others near it, beside a masked LM.

  NT-Xent in both directions over the whole batch: of a row, its first view is
  the anchor, and the mean of its further views' vectors the positive. Anchors
  of one document are each other's negatives, too. As in the release, one pass
  serves both terms: anchors are read masked, and their hidden tokens are
  predicted; positives are read as they are. Data are `spans`. Negatives are
  those of all devices; of a microbatch they are fewer, so leave
  config.microbatches at 1.

  Attributes:
    temperature: divides cosines.
    masked_lm: coefficient of the masked LM; 0: none, for data without
      `masking`.
    head: name of the head.
  """

  masked_lm: float = 1.0

  def weights(self, batch):
    """Numbers of anchors, and of tokens to predict."""
    found = {"contrast": jnp.sum(_real(batch["view_weights"]))}
    if self.masked_lm:
      found["masked_lm"] = jnp.sum(batch["predict_weights"])
    return found

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    views = base.output(outputs, self.head).astype(jnp.float32)
    views, there = by_group(views, batch["view_weights"])
    anchors, positives, real = views[:, 0], _mean(views, there), _real(there)
    loss = contrast.nt_xent(anchors, positives, real, self.temperature)
    cosine = contrast.unit(anchors) * contrast.unit(positives)
    found = jnp.sum(jnp.sum(cosine, axis=-1) * real)
    sums = {"contrast": loss}
    metrics = {"positive_cosine": (found, jnp.sum(real))}
    if self.masked_lm:
      sums["masked_lm"], told = base.token_terms(
        base.output(outputs, "masked_lm"),
        batch["predict_ids"],
        batch["predict_weights"],
      )
      metrics |= told
    return Outcome(sums, metrics)


def _real(weights):
  """1 where a group has an anchor and a positive, float32 [..., k] -> [...]."""
  there = weights > 0
  return (there[..., 0] & jnp.any(there[..., 1:], axis=-1)).astype(jnp.float32)


def _mean(views, weights):
  """The mean of a row's positives, [rows, width].

  Args:
    views: [rows, k, width], the anchor first.
    weights: [rows, k].
  """
  weights = weights[:, 1:, None]
  total = jnp.sum(views[:, 1:] * weights, axis=1)
  return total / jnp.maximum(jnp.sum(weights, axis=1), 1.0)
