"""AdamW (Loshchilov and Hutter, arXiv:1711.05101), and BERT's form of it.

BERT, ELECTRA and MobileBERT correct no bias (arXiv:1810.04805, released
code): `bias_correction=False`. Composer's DecoupledAdamW, which MosaicBERT
uses, decays by weight_decay * rate / peak rate; here, as in optax and torch,
the decay is weight_decay * rate, so its 1e-5 at a peak of 5e-4 is
`weight_decay=0.02` with `decay="all"`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm.optimizers import _parts, optimizers


@optimizers.register(
  "adamw", paper="arXiv:1711.05101", example={"learning_rate": 1e-3}
)
def adamw(
  learning_rate,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.01,
  decay: _parts.Decay = "no_bias_norm",
  bias_correction: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """Adam with decoupled weight decay, states in float32.

  Args:
    learning_rate: a schedule or a number.
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared gradients.
    eps: added to the root of the second mean.
    weight_decay: times the learning rate, how much of a weight a step takes.
    decay: what decays; see `_parts.decay_mask`.
    bias_correction: False is BERT's Adam.

  Raises:
    UserError: an unknown `decay`.
  """
  adam = optax.scale_by_adam if bias_correction else scale_by_uncorrected_adam
  return _parts.float32(
    optax.chain(
      adam(b1, b2, eps),
      optax.add_decayed_weights(weight_decay, _parts.decay_mask(decay)),
      _parts.scale_by_schedule(learning_rate),
    )
  )


class MomentState(NamedTuple):
  """Running means of gradients and of their squares."""

  mu: optax.Updates
  nu: optax.Updates


def scale_by_uncorrected_adam(
  b1: float, b2: float, eps: float
) -> optax.GradientTransformation:
  """mu / (sqrt(nu) + eps), without the correction for starting at zero."""

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return MomentState(zeros, zeros)

  def update(updates, state, params=None):
    del params
    mu = optax.tree.update_moment(updates, state.mu, b1, 1)
    nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
    new = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
    return new, MomentState(mu, nu)

  return optax.GradientTransformation(init, update)
