"""GradNormLoRP (Huang et al., arXiv:2412.19616): low rank, weight-normalised.

Each matrix is W = g V / |V|, a magnitude and a direction for every output.
The direction's gradient is projected onto a low rank as in GaLore, so Adam's
moments of it are small; the magnitude takes plain Adam. V is kept at the
length g, where it is W itself and needs no memory of its own.

The released code computes something else (its learned magnitude is thrown
away at every step, and the direction's gradient keeps its radial part), so
the paper's equations are what is written and tested here.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors, paths
from jaxlm.optimizers import _parts, _quantised, galore, optimizers
from jaxlm.types import Array

_DIRECTION, _MAGNITUDE = "direction", "magnitude"


class GradNormState(NamedTuple):
  """Adam's moments, the bases of the subspaces, the schedule."""

  count: Array  # shape=(), dtype=jnp.int32
  inner: Any
  bases: dict[str, Array]  # path -> [..., short side, rank]
  schedule: _parts.ScheduleState


@optimizers.register(
  "gradnormlorp",
  paper="arXiv:2412.19616",
  example={"learning_rate": 1e-3, "rank": 2},
)
def gradnormlorp(
  learning_rate,
  rank: int = 128,
  refresh: int = 250,
  scale: float = 0.25,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  decay: _parts.Decay = "no_bias_norm",
  magnitude_rate: float = 1.0,
  eight_bit: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Adam on magnitudes and on low-rank directions of matrices.

  Tables, vectors and matrices with a side of at most `rank` take plain Adam.

  Args:
    learning_rate: a schedule or a number.
    rank: of the subspace.
    refresh: steps from one choice of subspaces to the next.
    scale: alpha of the paper, times the projected update.
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared gradients.
    eps: added to the root of the second mean.
    weight_decay: times the learning rate, how much of a weight a step takes;
      of a normalised matrix it is taken from the magnitudes, since the
      direction's length has no meaning.
    decay: what decays; see `_parts.decay_mask`.
    magnitude_rate: times the learning rate, of magnitudes.
    eight_bit: moments in 8 bits.

  Raises:
    UserError: a rank or refresh under 1, an unknown `decay`.
  """
  if rank < 1 or refresh < 1:
    raise errors.UserError(
      f"config.optimizer: rank={rank} and refresh={refresh}, expected 1 or "
      "more."
    )
  adam = optax.with_extra_args_support(optax.scale_by_adam(b1, b2, eps))
  if eight_bit:
    adam = _quantised.quantised(adam)
  rate = _parts.scale_by_schedule(learning_rate)
  mask = _parts.decay_mask(decay)

  def init(params):
    bases = {
      path: jnp.zeros((*leaf.shape[:-2], min(leaf.shape[-2:]), rank))
      for path, leaf in paths.flatten(params).items()
      if galore.low(path, leaf, rank)
    }
    small = _small(params, params, bases)
    return GradNormState(
      jnp.zeros((), jnp.int32), adam.init(small), bases, rate.init(params)
    )

  def update(updates, state, params=None, **extra):
    if params is None:
      raise ValueError("gradnormlorp's update needs the parameters")
    flat, weights = paths.flatten(updates), paths.flatten(params)

    def fresh(bases):
      return {
        path: galore.leading(gradients(weights[path], flat[path])[0], rank)
        for path in bases
      }

    due = state.count % refresh == 0
    bases = jax.lax.cond(due, fresh, lambda bases: bases, state.bases)
    steps, inner = adam.update(_small(updates, params, bases), state.inner)
    steps = _large(steps, weights, bases, scale, magnitude_rate)
    steps = _decayed(steps, params, mask(params), bases, weight_decay)
    steps, schedule = rate.update(steps, state.schedule, **extra)
    moved = {p: steps[p] for p in weights if p not in bases} | {
      p: moves(weights[p], steps[p][_DIRECTION], steps[p][_MAGNITUDE])
      for p in bases
    }
    count = optax.safe_increment(state.count)
    new = GradNormState(count, inner, bases, schedule)
    return paths.like(updates, moved), new

  return _parts.float32(optax.GradientTransformationExtraArgs(init, update))


def gradients(weight: Array, gradient: Array) -> tuple[Array, Array]:
  """The gradient by direction and magnitude, at |V| = g.

  Args:
    weight: [..., inputs, outputs].
    gradient: of the loss by it.

  Returns:
    ([..., inputs, outputs], orthogonal to the weight at every output, and
    [..., 1, outputs]). An output of length 0 has no direction: its gradient is
    the plain one.
  """
  unit = weight / _lengths(weight)
  magnitude = jnp.sum(gradient * unit, axis=-2, keepdims=True)
  return gradient - unit * magnitude, magnitude


def moves(weight: Array, direction: Array, magnitude: Array) -> Array:
  """What W = g V / |V| changes by where V and g do by these steps."""
  length = jnp.linalg.norm(weight, axis=-2, keepdims=True)
  ratio = (length + magnitude) / _lengths(weight + direction)
  # As a change, not a difference of weights: no step is exactly no change.
  change = (ratio - 1.0) * weight + ratio * direction
  return jnp.where(length > 0, change, direction)


def _lengths(weight):
  return jnp.maximum(jnp.linalg.norm(weight, axis=-2, keepdims=True), 1e-30)


def _small(updates, params, bases):
  """{path: gradient, or {direction, magnitude} of a normalised matrix}."""
  weights, found = paths.flatten(params), {}
  for path, gradient in paths.flatten(updates).items():
    found[path] = gradient
    if path in bases:
      direction, magnitude = gradients(weights[path], gradient)
      direction = galore.down(direction, bases[path])
      found[path] = {_DIRECTION: direction, _MAGNITUDE: magnitude}
  return found


def _large(steps, weights, bases, scale, magnitude_rate):
  """Steps of directions back at the size of their matrices."""
  found = dict(steps)
  for path, basis in bases.items():
    direction = galore.up(steps[path][_DIRECTION], basis, weights[path].shape)
    found[path] = {
      _DIRECTION: scale * direction,
      _MAGNITUDE: magnitude_rate * steps[path][_MAGNITUDE],
    }
  return found


def _decayed(steps, params, mask, bases, weight_decay):
  """Steps with weight decay, taken from magnitudes where there are any."""
  weights, decays = paths.flatten(params), paths.flatten(mask)
  found = dict(steps)
  for path, weight in weights.items():
    if not weight_decay or not decays[path]:
      continue
    if path in bases:
      taken = weight_decay * jnp.linalg.norm(weight, axis=-2, keepdims=True)
      halves = steps[path]
      found[path] = halves | {_MAGNITUDE: halves[_MAGNITUDE] + taken}
    else:
      found[path] = steps[path] + weight_decay * weight
  return found
