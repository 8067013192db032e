"""SOAP (Vyas et al., arXiv:2409.11321): Adam in Shampoo's eigenbasis.

Each matrix keeps running means of G G^T and G^T G; Adam's second moment lives
in the basis of their eigenvectors, which one step of power iteration and a QR
decomposition keep up to date. Shampoo (arXiv:1802.09568) is its limit with a
second moment of rank one.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors
from jaxlm.optimizers import _parts, galore, optimizers
from jaxlm.optimizers.muon import is_hidden_matrix
from jaxlm.types import Array


@optimizers.register(
  "soap",
  paper="arXiv:2409.11321",
  example={"learning_rate": 1e-3, "refresh": 2},
)
def soap(
  learning_rate,
  b1: float = 0.95,
  b2: float = 0.95,
  shampoo_beta: float = 0.95,
  eps: float = 1e-8,
  refresh: int = 10,
  largest: int = 10_000,
  weight_decay: float = 0.01,
  decay: _parts.Decay = "no_bias_norm",
  bias_correction: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """SOAP for matrices inside the stack, AdamW for all else, at one rate.

  The first step only finds the bases and moves no matrix, as in the released
  code.

  Args:
    learning_rate: a schedule or a number.
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared gradients.
    shampoo_beta: decay of the means of G G^T and G^T G.
    eps: added to the root of the second mean.
    refresh: steps from one basis to the next.
    largest: a longer side keeps its own basis.
    weight_decay: times the learning rate, how much of a weight a step takes.
    decay: what decays; see `_parts.decay_mask`.
    bias_correction: correct both means for starting at zero.

  Raises:
    UserError: a refresh under 1, an unknown `decay`.
  """
  if refresh < 1:
    raise errors.UserError(
      f"config.optimizer.refresh is {refresh}, expected 1 or more."
    )
  rotated = scale_by_soap(
    b1, b2, shampoo_beta, eps, refresh, largest, bias_correction
  )
  return _parts.float32(
    optax.chain(
      _parts.split(is_hidden_matrix, rotated, optax.scale_by_adam(b1, b2, eps)),
      optax.add_decayed_weights(weight_decay, _parts.decay_mask(decay)),
      _parts.scale_by_schedule(learning_rate),
    )
  )


class SoapState(NamedTuple):
  """Both means, and for each side of each matrix its mean and its basis.

  Attributes:
    count: steps so far.
    mu: in the parameters' own basis.
    nu: in the rotated one.
    means: {side: tree of [..., side, side]}.
    bases: likewise, columns are eigenvectors, the largest first.
  """

  count: Array  # shape=(), dtype=jnp.int32
  mu: optax.Updates
  nu: optax.Updates
  means: Any
  bases: Any


def scale_by_soap(
  b1, b2, shampoo_beta, eps, refresh, largest, bias_correction
) -> optax.GradientTransformation:
  """mu / (sqrt(nu) + eps) in the eigenbasis, turned back; of matrices alone."""

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    squares = jax.tree.map(lambda p: outer(jnp.zeros_like(p), largest), params)
    return SoapState(jnp.zeros((), jnp.int32), zeros, zeros, squares, squares)

  def update(updates, state, params=None):
    del params
    fold = lambda old, new: shampoo_beta * old + (1.0 - shampoo_beta) * new
    means = jax.tree.map(
      lambda g, old: jax.tree.map(fold, old, outer(g, largest)),
      updates,
      state.means,
    )

    def first():
      bases = jax.tree.map(_eigenvectors, means)
      still = jax.tree.map(jnp.zeros_like, updates)
      return still, SoapState(
        jnp.ones((), jnp.int32), state.mu, state.nu, means, bases
      )

    def later():
      return _step(updates, state, means)

    return jax.lax.cond(state.count == 0, first, later)

  def _step(updates, state, means):
    count = state.count  # updates so far with this one: the first made none
    mu = optax.tree.update_moment(updates, state.mu, b1, 1)
    turned = jax.tree.map(_turn, updates, state.bases)
    nu = optax.tree.update_moment_per_elem_norm(turned, state.nu, b2, 2)
    mean, square = mu, nu
    if bias_correction:
      mean = optax.tree.bias_correction(mu, b1, count)
      square = optax.tree.bias_correction(nu, b2, count)
    new = jax.tree.map(
      lambda m, v, q: _turn_back(_turn(m, q) / (jnp.sqrt(v) + eps), q),
      mean,
      square,
      state.bases,
    )

    def fresh():
      pairs = jax.tree.map(_refreshed, nu, means, state.bases)
      return (
        jax.tree.map(lambda _, pair: pair[0], nu, pairs),
        jax.tree.map(lambda _, pair: pair[1], nu, pairs),
      )

    due = count % refresh == 0
    nu, bases = jax.lax.cond(due, fresh, lambda: (nu, state.bases))
    count = optax.safe_increment(count)
    return new, SoapState(count, mu, nu, means, bases)

  return optax.GradientTransformation(init, update)


def outer(g, largest):
  """{"left": G G^T, "right": G^T G} of sides up to `largest`."""
  found = {}
  if g.shape[-2] <= largest:
    found["left"] = g @ jnp.swapaxes(g, -1, -2)
  if g.shape[-1] <= largest:
    found["right"] = jnp.swapaxes(g, -1, -2) @ g
  return found


def _turn(g, bases):
  """Q_left^T G Q_right."""
  if "left" in bases:
    g = jnp.swapaxes(bases["left"], -1, -2) @ g
  return g @ bases["right"] if "right" in bases else g


def _turn_back(g, bases):
  """Q_left G Q_right^T."""
  if "left" in bases:
    g = bases["left"] @ g
  return g @ jnp.swapaxes(bases["right"], -1, -2) if "right" in bases else g


def _eigenvectors(mean):
  """Columns, the largest eigenvalue first.

  A first gradient has no full rank, and any basis of what it leaves out would
  do; the same one is taken wherever the run is, or rounding would decide.
  """
  values, vectors = jnp.linalg.eigh(mean)
  top = jnp.maximum(values[..., -1:], jnp.finfo(mean.dtype).tiny)
  empty = (values < 1e-6 * top).astype(mean.dtype)
  left_out = (vectors * empty[..., None, :]) @ jnp.swapaxes(vectors, -1, -2)
  order = jnp.diag(jnp.linspace(1.0, 2.0, mean.shape[-1], dtype=mean.dtype))
  told = mean / top[..., None] - left_out @ order @ left_out
  return galore.signed(jnp.linalg.eigh(told)[1][..., ::-1])


def _refreshed(nu, means, bases):
  """nu and the bases after one power iteration, both in the new order."""
  new = {}
  for side, basis in bases.items():
    mean = means[side]
    values = jnp.sum(basis * (mean @ basis), axis=-2)
    order = jnp.argsort(values, axis=-1, descending=True)
    basis = jnp.take_along_axis(basis, order[..., None, :], axis=-1)
    new[side] = jnp.linalg.qr(mean @ basis)[0]
    places = order[..., :, None] if side == "left" else order[..., None, :]
    nu = jnp.take_along_axis(nu, places, axis=-2 if side == "left" else -1)
  return nu, new
