"""Predicted vectors that lie where the next word's do."""

import dataclasses

import jax.numpy as jnp

from jaxlm.objectives import _continuous, objectives


@objectives.register("continuous_l2", paper="arXiv:1812.04616")
@dataclasses.dataclass(frozen=True)
class ContinuousL2(_continuous.Continuous):
  """|e' - e|^2, of Kumar and Tsvetkov's comparison."""

  def loss(self, found, wanted, batch):
    """The squared distance."""
    del batch
    return jnp.sum(jnp.square(found - wanted), axis=-1)
