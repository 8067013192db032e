"""SimCSE: sentences told apart (Gao et al., arXiv:2104.08821)."""

import dataclasses

import jax.numpy as jnp

from jaxlm.objectives import contrast, objectives
from jaxlm.objectives._contrastive import OfViews


@objectives.register("simcse", paper="arXiv:2104.08821")
@dataclasses.dataclass(frozen=True)
class SimCSE(OfViews):
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

  hard_negative_weight: float = 0.0

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
