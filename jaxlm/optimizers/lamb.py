"""LAMB (You et al., arXiv:1904.00962): Adam steps as long as their weights.

Large batches need large rates; LAMB makes each tensor's step proportional to
the tensor's norm. A layer of a scanned stack is a tensor of its own.
"""

import jax
import jax.numpy as jnp
import optax

from jaxlm import paths
from jaxlm.optimizers import _matrices, _parts, optimizers


@optimizers.register(
  "lamb", paper="arXiv:1904.00962", example={"learning_rate": 1e-3}
)
def lamb(
  learning_rate,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-6,
  weight_decay: float = 0.01,
  decay: _parts.Decay = "no_bias_norm",
  adapt: _parts.Decay = "no_bias_norm",
) -> optax.GradientTransformationExtraArgs:
  """Adam with decoupled decay, each tensor's step scaled to its norm.

  Args:
    learning_rate: a schedule or a number.
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared gradients.
    eps: added to the root of the second mean.
    weight_decay: how much of a weight joins the step before it is scaled.
    decay: what decays; see `_parts.decay_mask`.
    adapt: what is scaled by its norm, in the same words; the rest takes
      Adam's step. `all` is the paper's (and optax's) rule.

  Raises:
    UserError: an unknown `decay` or `adapt`.
  """
  return _parts.float32(
    optax.chain(
      optax.scale_by_adam(b1, b2, eps),
      optax.add_decayed_weights(weight_decay, _parts.decay_mask(decay)),
      scale_by_trust_ratio(_parts.decay_mask(adapt)),
      _parts.scale_by_schedule(learning_rate),
    )
  )


def scale_by_trust_ratio(mask) -> optax.GradientTransformation:
  """Times |weight| / |update| per tensor; 1 where either is zero.

  Args:
    mask: parameters -> tree of bool, which are scaled.
  """

  def update(updates, state, params):
    def scaled(path, step, weight, adapted):
      if not adapted:
        return step
      axes = tuple(range(int(_matrices.stacked(paths.name(path))), step.ndim))
      norm = lambda x: jnp.sqrt(jnp.sum(x * x, axis=axes, keepdims=True))
      old, new = norm(weight), norm(step)
      ratio = jnp.where((old > 0) & (new > 0), old / jnp.maximum(new, 1e-38), 1)
      return step * ratio.reshape(ratio.shape if step.ndim else ())

    new = jax.tree_util.tree_map_with_path(
      scaled, updates, params, mask(params)
    )
    return new, state

  return optax.GradientTransformation(lambda _: optax.EmptyState(), update)
