"""Muon (Jordan 2024; Liu et al., arXiv:2502.16982): orthogonal momentum.

The momentum of a matrix is turned into the nearest matrix with orthonormal
rows or columns by a Newton-Schulz iteration (optax's), and scaled so that its
entries are as large as Adam's. Tables, heads and vectors take AdamW.
"""

import jax
import optax

from jaxlm.optimizers import _matrices, _parts, optimizers


@optimizers.register(
  "muon", paper="arXiv:2502.16982", example={"learning_rate": 1e-3}
)
def muon(
  learning_rate,
  beta: float = 0.95,
  nesterov: bool = True,
  rms: float = 0.2,
  steps: int = 5,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.01,
  decay: _parts.Decay = "no_bias_norm",
) -> optax.GradientTransformationExtraArgs:
  """Muon for matrices inside the stack, AdamW for all else, at one rate.

  Args:
    learning_rate: a schedule or a number.
    beta: decay of the momentum.
    nesterov: look one step ahead.
    rms: root mean square of an update's entries at rate 1; 0.2 is about
      Adam's, so that its learning rates carry over.
    steps: Newton-Schulz iterations.
    b1: decay of the mean of gradients (AdamW).
    b2: decay of the mean of squared gradients (AdamW).
    eps: added to AdamW's root.
    weight_decay: times the learning rate, how much of a weight a step takes.
    decay: what decays; see `_parts.decay_mask`.

  Raises:
    UserError: an unknown `decay`.
  """
  momentum = optax.chain(
    optax.contrib.scale_by_muon(
      ns_steps=steps,
      beta=beta,
      nesterov=nesterov,
      weight_dimension_numbers=_dimensions,
    ),
    optax.stateless(lambda updates, _: jax.tree.map(_sized(rms), updates)),
  )
  return _parts.float32(
    optax.chain(
      _parts.split(
        is_hidden_matrix, momentum, optax.scale_by_adam(b1, b2, eps)
      ),
      optax.add_decayed_weights(weight_decay, _parts.decay_mask(decay)),
      _parts.scale_by_schedule(learning_rate),
    )
  )


def is_hidden_matrix(path: str, leaf) -> bool:
  """Whether a parameter is a matrix that is no table and in no head."""
  if _matrices.is_table(path) or path.startswith("heads_"):
    return False
  return _matrices.rank(path, leaf) == 2


def _dimensions(updates):
  numbers = optax.contrib.MuonDimensionNumbers
  return jax.tree.map(lambda u: numbers(u.ndim - 2, u.ndim - 1), updates)


def _sized(rms):
  return lambda u: rms * max(u.shape[-2:]) ** 0.5 * u
