"""Predicted vectors that are nearer to the next word than to a wrong one."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlm.objectives import _continuous, objectives


@objectives.register("continuous_margin", paper="arXiv:1812.04616")
@dataclasses.dataclass(frozen=True)
class ContinuousMargin(_continuous.Continuous):
  """max(0, margin + cos(e', w) - cos(e', e)), w the most informative word.

  w maximises cos(e', w) - cos(e, w): near to the prediction, far from the
  answer. The paper looks for it in the whole vocabulary, which stays on the
  host here: it is one of the words of the row.

  Attributes:
    margin: by which the answer is to be nearer.
  """

  margin: float = 0.5

  def loss(self, found, wanted, batch):
    """The hinge."""
    ways = self.directions
    near = _continuous.rivals(found, batch, ways)[1]
    informative = near - _continuous.rivals(wanted, batch, ways)[1]
    is_other = near > -1.0
    informative = jnp.where(is_other, informative, -jnp.inf)
    chosen = jnp.argmax(jax.lax.stop_gradient(informative), axis=-1)
    wrong = jnp.take_along_axis(near, chosen[..., None], axis=-1)[..., 0]
    right = _continuous.cosine(found, wanted)
    return jax.nn.relu(self.margin + wrong - right)
