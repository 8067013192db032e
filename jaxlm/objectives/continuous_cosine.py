"""Predicted vectors that point where the next word's do (ELMo-C)."""

import dataclasses

from jaxlm.objectives import _continuous, objectives


@objectives.register("continuous_cosine", paper="Li et al., TACL 2019, ELMo-C")
@dataclasses.dataclass(frozen=True)
class ContinuousCosine(_continuous.Continuous):
  """1 - cos(e', e), the loss that ELMo-C trains with."""

  def loss(self, found, wanted, batch):
    """1 - cos."""
    del batch
    return 1.0 - _continuous.cosine(found, wanted)
