"""CLEAR: masked LM and two wordings of a sentence (arXiv:2012.15466)."""

import dataclasses

import jax.numpy as jnp

from jaxlm.objectives import contrast, objectives
from jaxlm.objectives._contrastive import OfViews


@objectives.register("clear", paper="arXiv:2012.15466")
@dataclasses.dataclass(frozen=True)
class CLEAR(OfViews):
  """Two wordings of each sentence find each other, beside a masked LM.

  NT-Xent in both directions, negatives the other wordings of the whole batch,
  of a row's first two views. The masked LM reads the sentences as they are.
  Data are `sentences` with `augment` and `masking`; from scratch, or on.

  Attributes:
    temperature: divides cosines; our choice, 0.1.
    masked_lm: coefficient of the masked LM; both terms count alike.
  """

  temperature: float = 0.1
  masked_lm: float = 1.0

  def _contrast(self, views, there):
    real = there[:, 1] > 0
    first, second = views[:, 0], views[:, 1]
    loss = contrast.nt_xent(first, second, real, self.temperature)
    cosine = jnp.sum(contrast.unit(first) * contrast.unit(second), axis=-1)
    return loss, {"positive_cosine": (jnp.sum(cosine * real), jnp.sum(real))}
