"""A model beside a frozen copy of what it started from."""

from typing import Any

import jax
import jax.numpy as jnp

COLLECTION = "teacher"


class Taught:
  """Any model; its first parameters are kept in the collection `teacher`.

  They are no parameters: they have no gradient, no optimizer state and no
  weight decay, lie on devices as the parameters do, and are saved with the
  state. An objective that says `teacher` gets this in place of the model.

  Attributes:
    model: the model.
  """

  def __init__(self, model):
    self.model = model

  def init(self, rngs, batch, *, train=False):
    """Variables of the model, and a copy of its parameters."""
    variables = self.model.init(rngs, batch, train=train)
    return {**variables, COLLECTION: _copy(variables["params"])}

  def started(self, params, extra) -> dict[str, Any]:
    """Collections of a state that starts from given parameters."""
    return {**extra, COLLECTION: _copy(params)}

  def apply(self, variables, batch, *, teacher=False, **options):
    """Runs the model, or the teacher on the same batch.

    Args:
      variables: {"params": ..., "teacher": ..., ...}.
      batch: see docs/design.md.
      teacher: runs the frozen copy, without dropout or gradient.
      **options: of the model.
    """
    rest = {k: v for k, v in variables.items() if k != COLLECTION}
    if not teacher:
      return self.model.apply(rest, batch, **options)
    frozen = jax.lax.stop_gradient(variables[COLLECTION])
    return self.model.apply({**rest, "params": frozen}, batch, train=False)

  def __getattr__(self, name):
    return getattr(self.model, name)


def _copy(tree):
  """Arrays of their own: a train step gives up those of its state."""
  return jax.tree.map(jnp.copy, tree)
