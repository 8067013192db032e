"""CLEAR: masked LM and two wordings of a sentence (arXiv:2012.15466)."""

import dataclasses

import jax.numpy as jnp

from jaxlm import errors
from jaxlm.objectives import contrast, objectives
from jaxlm.objectives.simcse import SimCSE


@objectives.register("clear", paper="arXiv:2012.15466")
@dataclasses.dataclass(frozen=True)
class CLEAR(SimCSE):
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

  def __post_init__(self):
    super().__post_init__()
    if self.hard_negative_weight:
      raise errors.UserError(
        "config.objective.hard_negative_weight is "
        f"{self.hard_negative_weight}; 'clear' has no hard negatives."
      )

  def _contrast(self, views, there):
    real = there[:, 1] > 0
    first, second = views[:, 0], views[:, 1]
    loss = contrast.nt_xent(first, second, real, self.temperature)
    cosine = jnp.sum(contrast.unit(first) * contrast.unit(second), axis=-1)
    return loss, {"positive_cosine": (jnp.sum(cosine * real), jnp.sum(real))}
