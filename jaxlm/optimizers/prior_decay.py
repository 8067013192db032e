"""Decay towards the weights that training started from (prior decay).

Fine-tuning with weight decay towards zero forgets what pre-training knew;
decay towards the pre-trained weights keeps it (Chelba and Acero 2006;
Wiese et al., arXiv:1706.03610).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors
from jaxlm.optimizers import _parts, optimizers


class PriorState(NamedTuple):
  """The base's state, the weights at the start, the decay's schedule."""

  base: Any
  prior: optax.Params
  schedule: _parts.ScheduleState


@optimizers.register(
  "prior_decay",
  paper="arXiv:1706.03610",
  example={"learning_rate": 1e-3, "base": {"kind": "adamw"}},
)
def prior_decay(
  learning_rate,
  base: Mapping,
  weight_decay: float = 0.01,
  decay: _parts.Decay = "no_bias_norm",
) -> optax.GradientTransformationExtraArgs:
  """`base`, and a pull of rate * weight_decay * (weight - its first value).

  Args:
    learning_rate: a schedule or a number.
    base: spec of an optimizer, without its learning rate; give it
      weight_decay=0, or weights are pulled to zero too.
    weight_decay: times the learning rate, how much of the way back a step
      goes.
    decay: what is pulled; see `_parts.decay_mask`.

  Raises:
    UserError: a negative decay, an unknown `decay`.
  """
  if weight_decay < 0:
    raise errors.UserError(
      f"config.optimizer.weight_decay is {weight_decay}, expected 0 or more."
    )
  tx = optax.with_extra_args_support(
    optimizers.build(dict(base), learning_rate=learning_rate)
  )
  rate = _parts.scale_by_schedule(learning_rate)
  mask = _parts.decay_mask(decay)

  def init(params):
    # A copy: the train step gives its parameters away.
    prior = jax.tree.map(
      lambda p, use: jnp.array(p, jnp.float32) if use else None,
      params,
      mask(params),
    )
    return PriorState(tx.init(params), prior, rate.init(params))

  def update(updates, state, params=None, **extra):
    new, inner = tx.update(updates, state.base, params, **extra)
    # What is not pulled is a hole in the tree.
    pull = jax.tree.map(
      lambda prior, p: (
        None
        if prior is None
        else weight_decay * (p.astype(prior.dtype) - prior)
      ),
      state.prior,
      params,
      is_leaf=lambda leaf: leaf is None,
    )
    pull, schedule = rate.update(pull, state.schedule, **extra)
    new = jax.tree.map(
      lambda back, u: u if back is None else u + back.astype(u.dtype),
      pull,
      new,
      is_leaf=lambda leaf: leaf is None,
    )
    return new, PriorState(inner, state.prior, schedule)

  return optax.GradientTransformationExtraArgs(init, update)
