"""Sophia (Liu et al., arXiv:2305.14342): clipped steps over the curvature.

optax's update on the Hutchinson estimate that AdaHessian takes, so that
gradient and product come from one forward-mode derivative of the gradient.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors
from jaxlm.optimizers import _parts, optimizers
from jaxlm.optimizers.adahessian import hutchinson
from jaxlm.types import Array


@optimizers.register(
  "sophia", paper="arXiv:2305.14342", example={"learning_rate": 1e-3}
)
def sophia(
  learning_rate,
  b1: float = 0.965,
  b2: float = 0.99,
  eps: float = 1e-8,
  gamma: float = 0.01,
  clip: float = 1.0,
  interval: int = 10,
  weight_decay: float = 0.1,
  decay: _parts.Decay = "no_bias_norm",
  seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
  """clip(mu / max(gamma * h, eps)): Sophia-H.

  `update` needs the extra argument `grad_fn` (parameters -> gradient of this
  step's loss), which the train step gives.

  Args:
    learning_rate: a schedule or a number; a third of AdamW's or so.
    b1: decay of the mean of gradients.
    b2: decay of the mean of curvatures, an estimate at a time.
    eps: the least divisor.
    gamma: times the curvature; larger clips less.
    clip: largest size of an entry of an update, before the rate.
    interval: steps from one curvature estimate to the next.
    weight_decay: times the learning rate, how much of a weight a step takes.
    decay: what decays; see `_parts.decay_mask`.
    seed: of the random signs.

  Raises:
    UserError: an unknown `decay`, an interval under 1.
  """
  if interval < 1:
    raise errors.UserError(
      f"config.optimizer.interval is {interval}, expected 1 or more."
    )
  # At a rate of 1, with its sign taken back: optax shows the whole alone.
  whole = optax.contrib.sophia(
    1.0,
    b1=b1,
    b2=b2,
    eps=eps,
    weight_decay=0.0,
    gamma=gamma,
    clip_threshold=clip,
    update_interval=interval,
    hessian_diagonal_fn=_diagonal(seed),
  )
  return _parts.float32(
    optax.chain(
      whole,
      optax.scale(-1.0),
      optax.add_decayed_weights(weight_decay, _parts.decay_mask(decay)),
      _parts.scale_by_schedule(learning_rate),
    )
  )


class DiagonalState(NamedTuple):
  """Estimates so far, from which the next one's signs are drawn."""

  count: Array  # shape=(), dtype=jnp.int32


def _diagonal(seed: int) -> optax.GradientTransformationExtraArgs:
  def init(params):
    del params
    return DiagonalState(jnp.zeros((), jnp.int32))

  def update(updates, state, params=None, *, grad_fn=None, **extra):
    del updates, extra
    if grad_fn is None or params is None:
      raise ValueError(
        "sophia's update needs the parameters and grad_fn=(parameters -> "
        "gradient of this step's loss)"
      )
    key = jax.random.fold_in(jax.random.key(seed), state.count)
    found = hutchinson(grad_fn, params, key)
    return found, DiagonalState(optax.safe_increment(state.count))

  return optax.GradientTransformationExtraArgs(init, update)
