"""StableAdamW (Wortsman et al., arXiv:2304.13013): AdamW, clipped a tensor.

A tensor whose squared gradients outrun their running mean takes a smaller
step, decay included. The debiasing of the betas follows torch-optimi, which
ModernBERT (arXiv:2412.13663) trained with.
"""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import paths
from jaxlm.optimizers import _parts, optimizers
from jaxlm.types import Array


@optimizers.register(
  "stable_adamw", paper="arXiv:2304.13013", example={"learning_rate": 1e-3}
)
def stable_adamw(
  learning_rate,
  b1: float = 0.9,
  b2: float = 0.98,
  eps: float = 1e-6,
  weight_decay: float = 0.01,
  decay: _parts.Decay = "no_bias_norm",
  stacked: str = _parts.STACKED,
) -> optax.GradientTransformationExtraArgs:
  """AdamW whose step shrinks by max(1, rms(gradient / root of its mean)).

  Args:
    learning_rate: a schedule or a number.
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared gradients.
    eps: added to the root of the second mean.
    weight_decay: times the learning rate, how much of a weight a step takes.
    decay: what decays; see `_parts.decay_mask`.
    stacked: paths (regular expression) whose leading axis counts layers, each
      of which is a tensor of its own.

  Raises:
    UserError: an unknown `decay`.
  """
  mask = _parts.decay_mask(decay)
  shrink = _scale_by_stable_adam(b1, b2, eps, weight_decay, mask, stacked)
  return _parts.float32(
    optax.chain(shrink, _parts.scale_by_schedule(learning_rate))
  )


class StableAdamState(NamedTuple):
  """Running means of gradients and of their squares."""

  count: Array  # shape=(), dtype=jnp.int32
  mu: optax.Updates
  nu: optax.Updates


def _scale_by_stable_adam(b1, b2, eps, weight_decay, mask, stacked):
  stacked = re.compile(stacked)

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return StableAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

  def update(updates, state, params):
    count = optax.safe_increment(state.count)
    mu = optax.tree.update_moment(updates, state.mu, _debiased(b1, count), 1)
    nu = optax.tree.update_moment_per_elem_norm(
      updates, state.nu, _debiased(b2, count), 2
    )

    def direction(path, g, m, v, p, decays):
      layered = bool(stacked.search(paths.name(path)))
      axes = tuple(range(int(layered), g.ndim))
      ratio = g * g / jnp.maximum(v, eps * eps)
      rms = jnp.sqrt(jnp.mean(ratio, axis=axes, keepdims=True))
      step = m / (jnp.sqrt(v) + eps) + (weight_decay * p if decays else 0.0)
      return step / jnp.maximum(1.0, rms.reshape(rms.shape if g.ndim else ()))

    new = jax.tree_util.tree_map_with_path(
      direction, updates, mu, nu, params, mask(params)
    )
    return new, StableAdamState(count, mu, nu)

  return optax.GradientTransformation(init, update)


def _debiased(beta, count):
  """The beta whose plain running mean is the bias-corrected one."""
  power = beta ** count.astype(jnp.float32)
  return (power - beta) / (power - 1.0)
