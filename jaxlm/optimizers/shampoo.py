"""Shampoo (Gupta et al., arXiv:1802.09568): a root of the matrix of squares.

Each matrix keeps L = sum of G G^T and R = sum of G^T G, and steps along
L^(-1/4) G R^(-1/4). How far it steps is taken from Adam's second moment, as in
Anil et al., arXiv:2002.09018 ("grafting"): Adam's rates carry over.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors
from jaxlm.optimizers import _parts, optimizers, soap
from jaxlm.optimizers.muon import is_hidden_matrix
from jaxlm.types import Array


@optimizers.register(
  "shampoo",
  paper="arXiv:1802.09568, arXiv:2002.09018",
  example={"learning_rate": 1e-3, "refresh": 2, "matrix_eps": 1.0},
)
def shampoo(
  learning_rate,
  b1: float = 0.9,
  b2: float = 0.999,
  shampoo_beta: float = 1.0,
  exponent: float = 0.25,
  eps: float = 1e-8,
  matrix_eps: float = 1e-6,
  graft: bool = True,
  refresh: int = 10,
  largest: int = 10_000,
  weight_decay: float = 0.01,
  decay: _parts.Decay = "no_bias_norm",
) -> optax.GradientTransformationExtraArgs:
  """Shampoo for matrices inside the stack, AdamW for all else, at one rate.

  Args:
    learning_rate: a schedule or a number.
    b1: decay of the mean of steps (and of AdamW's mean of gradients).
    b2: decay of the mean of squared gradients.
    shampoo_beta: decay of L and R; 1 sums them up, as the paper has it.
    exponent: L and R are raised to its negative.
    eps: added to the root of the second mean.
    matrix_eps: L and R begin as so much of the identity.
    graft: give a step the norm that RMSProp's would have.
    refresh: steps from one root to the next.
    largest: a longer side is left as it is.
    weight_decay: times the learning rate, how much of a weight a step takes.
    decay: what decays; see `_parts.decay_mask`.

  Raises:
    UserError: a refresh under 1, a matrix_eps that is not positive, an
      unknown `decay`.
  """
  if refresh < 1 or matrix_eps <= 0:
    raise errors.UserError(
      f"config.optimizer: refresh={refresh} and matrix_eps={matrix_eps}, "
      "expected refresh >= 1 and matrix_eps > 0."
    )
  rooted = scale_by_shampoo(
    b2, shampoo_beta, exponent, eps, matrix_eps, graft, refresh, largest
  )
  matrices = optax.chain(rooted, optax.ema(b1, debias=True))
  return _parts.float32(
    optax.chain(
      _parts.split(
        is_hidden_matrix, matrices, optax.scale_by_adam(b1, b2, eps)
      ),
      optax.add_decayed_weights(weight_decay, _parts.decay_mask(decay)),
      _parts.scale_by_schedule(learning_rate),
    )
  )


class ShampooState(NamedTuple):
  """What is known of each matrix.

  Attributes:
    count: steps so far.
    nu: mean of squared gradients; () without grafting.
    sums: {side: tree of [..., side, side]}, L and R.
    roots: likewise, their negative powers.
  """

  count: Array  # shape=(), dtype=jnp.int32
  nu: Any
  sums: Any
  roots: Any


def scale_by_shampoo(
  b2, shampoo_beta, exponent, eps, matrix_eps, graft, refresh, largest
) -> optax.GradientTransformation:
  """L^-exponent G R^-exponent of matrices [..., rows, columns]."""

  def init(params):
    sums = jax.tree.map(
      lambda p: {
        side: jnp.broadcast_to(matrix_eps * jnp.eye(x.shape[-1]), x.shape)
        for side, x in soap.outer(jnp.zeros_like(p), largest).items()
      },
      params,
    )
    nu = jax.tree.map(jnp.zeros_like, params) if graft else ()
    return ShampooState(jnp.zeros((), jnp.int32), nu, sums, sums)

  def update(updates, state, params=None):
    del params
    new = 1.0 if shampoo_beta == 1.0 else 1.0 - shampoo_beta
    fold = lambda old, square: shampoo_beta * old + new * square
    sums = jax.tree.map(
      lambda g, old: jax.tree.map(fold, old, soap.outer(g, largest)),
      updates,
      state.sums,
    )
    roots = jax.lax.cond(
      state.count % refresh == 0,
      lambda: jax.tree.map(lambda x: _power(x, -exponent), sums),
      lambda: state.roots,
    )
    count, nu = optax.safe_increment(state.count), state.nu
    found = jax.tree.map(_between, updates, roots)
    if graft:
      nu = optax.tree.update_moment_per_elem_norm(updates, nu, b2, 2)
      square = optax.tree.bias_correction(nu, b2, count)
      wanted = jax.tree.map(lambda g, v: g / (v**0.5 + eps), updates, square)
      found = jax.tree.map(_as_long, found, wanted)
    return found, ShampooState(count, nu, sums, roots)

  return optax.GradientTransformation(init, update)


def _power(matrix, exponent):
  """A power of symmetric matrices [..., n, n] with positive eigenvalues."""
  values, vectors = jnp.linalg.eigh(matrix)
  # Rounding leaves small values below zero.
  least = jnp.finfo(matrix.dtype).eps * values[..., -1:]
  powers = jnp.maximum(values, least) ** exponent
  return (vectors * powers[..., None, :]) @ jnp.swapaxes(vectors, -1, -2)


def _between(g, roots):
  if "left" in roots:
    g = roots["left"] @ g
  return g @ roots["right"] if "right" in roots else g


def _as_long(found, wanted):
  """Each matrix with the norm of another."""
  norm = lambda x: jnp.sqrt(jnp.sum(jnp.square(x), (-2, -1), keepdims=True))
  here = norm(found)
  return found * norm(wanted) / jnp.where(here == 0.0, 1.0, here)
