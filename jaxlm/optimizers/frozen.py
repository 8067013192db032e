"""No update: for the groups of parameters that stay as they are."""

import jax
import jax.numpy as jnp
import optax

from jaxlm.optimizers import optimizers


@optimizers.register("frozen", example={"learning_rate": 1e-3})
def frozen(learning_rate=0.0) -> optax.GradientTransformationExtraArgs:
  """Updates of zero and no state.

  Args:
    learning_rate: taken as from every part, and of no effect.
  """
  del learning_rate

  def update(updates, state, params=None, **extra):
    del params, extra
    return jax.tree.map(jnp.zeros_like, updates), state

  return optax.GradientTransformationExtraArgs(
    lambda _: optax.EmptyState(), update
  )
