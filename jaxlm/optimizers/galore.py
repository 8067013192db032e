"""GaLore (Zhao et al., arXiv:2403.03507): Adam in a gradient's subspace.

The gradient of a matrix is projected onto the leading singular vectors of its
shorter side, found anew every `refresh` steps; Adam's two moments live in the
projection. (optax.contrib.galore projects the longer side, which loses part of
the gradient even at full rank.)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors, paths
from jaxlm.optimizers import _matrices, _parts, _quantised, optimizers
from jaxlm.types import Array


@optimizers.register(
  "galore",
  paper="arXiv:2403.03507",
  example={"learning_rate": 1e-3, "rank": 2},
)
def galore(
  learning_rate,
  rank: int = 128,
  refresh: int = 200,
  scale: float = 0.25,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-6,
  weight_decay: float = 0.0,
  decay: _parts.Decay = "no_bias_norm",
  eight_bit: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """AdamW whose moments of matrices are low-rank projections.

  Tables, vectors and matrices with a side of at most `rank` take plain Adam.

  Args:
    learning_rate: a schedule or a number.
    rank: of the subspace.
    refresh: steps from one choice of subspaces to the next.
    scale: alpha of the paper, times the projected update.
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared gradients.
    eps: added to the root of the second mean.
    weight_decay: times the learning rate, how much of a weight a step takes.
    decay: what decays; see `_parts.decay_mask`.
    eight_bit: moments in 8 bits.

  Raises:
    UserError: a rank or refresh under 1, an unknown `decay`.
  """
  if rank < 1 or refresh < 1:
    raise errors.UserError(
      f"config.optimizer: rank={rank} and refresh={refresh}, expected 1 or "
      "more."
    )
  adam = optax.scale_by_adam(b1, b2, eps)
  if eight_bit:
    adam = _quantised.quantised(adam)
  return _parts.float32(
    optax.chain(
      project(adam, rank, refresh, scale),
      optax.add_decayed_weights(weight_decay, _parts.decay_mask(decay)),
      _parts.scale_by_schedule(learning_rate),
    )
  )


class ProjectedState(NamedTuple):
  """The base's state in the subspaces, and their bases."""

  count: Array  # shape=(), dtype=jnp.int32
  inner: Any
  bases: dict[str, Array]  # path -> [..., short side, rank]


def project(
  inner: optax.GradientTransformation, rank: int, refresh: int, scale: float
) -> optax.GradientTransformation:
  """`inner` on projected gradients, its updates projected back, times scale.

  Args:
    inner: a transformation that needs no parameters.
    rank: of the subspaces.
    refresh: steps between choices.
    scale: of the updates that were projected.
  """

  def init(params):
    chosen = {p: v for p, v in paths.flatten(params).items() if low(p, v, rank)}
    bases = {
      path: jnp.zeros((*leaf.shape[:-2], min(leaf.shape[-2:]), rank))
      for path, leaf in chosen.items()
    }
    small = paths.like(
      params, {p: down(v, bases[p]) for p, v in chosen.items()}
    )
    return ProjectedState(jnp.zeros((), jnp.int32), inner.init(small), bases)

  def update(updates, state, params=None):
    del params
    leaves = paths.flatten(updates)
    due = state.count % refresh == 0

    def fresh(bases):
      return {path: leading(leaves[path], rank) for path in bases}

    bases = jax.lax.cond(due, fresh, lambda bases: bases, state.bases)
    small = {path: down(leaves[path], basis) for path, basis in bases.items()}
    steps, held = inner.update(paths.like(updates, small), state.inner)
    flat = paths.flatten(steps)
    large = {
      path: scale * up(flat[path], basis, leaves[path].shape)
      for path, basis in bases.items()
    }
    count = optax.safe_increment(state.count)
    return paths.like(steps, large), ProjectedState(count, held, bases)

  return optax.GradientTransformation(init, update)


def low(path: str, leaf, rank: int) -> bool:
  """Whether a parameter is projected."""
  if _matrices.rank(path, leaf) != 2 or _matrices.is_table(path):
    return False
  return min(leaf.shape[-2:]) > rank


def leading(gradient: Array, rank: int) -> Array:
  """[..., short side, rank]: its first singular vectors, of fixed signs."""
  u, _, vh = jnp.linalg.svd(gradient, full_matrices=False)
  vectors = u if _rows_are_short(gradient.shape) else jnp.swapaxes(vh, -1, -2)
  return signed(vectors[..., :rank])


def signed(basis: Array) -> Array:
  """Columns whose entry of largest size is positive.

  A sign has no meaning, but moments are kept over a refresh and would change
  theirs.
  """
  place = jnp.argmax(jnp.abs(basis), axis=-2, keepdims=True)
  return basis * jnp.sign(jnp.take_along_axis(basis, place, axis=-2))


def down(gradient: Array, basis: Array) -> Array:
  """[..., rank, columns] or [..., rows, rank]."""
  if _rows_are_short(gradient.shape):
    return jnp.swapaxes(basis, -1, -2) @ gradient
  return gradient @ basis


def up(step: Array, basis: Array, shape) -> Array:
  """A step in the subspace as one of the matrix's `shape`."""
  if _rows_are_short(shape):
    return basis @ step
  return step @ jnp.swapaxes(basis, -1, -2)


def _rows_are_short(shape) -> bool:
  # A square one is projected at its inputs, as in galore-torch.
  return shape[-2] <= shape[-1]
