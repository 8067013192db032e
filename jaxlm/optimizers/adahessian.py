"""AdaHessian (Yao et al., arXiv:2006.00719): Adam on the Hessian's diagonal.

The diagonal is Hutchinson's estimate z * (H z) with random signs z, made by
one forward-mode derivative of the gradient. At an interval of 1 gradient and
product come from one pass, where `update` is given `hvp_fn`. Absolute values
are averaged over the inputs of a matrix (the paper's spatial averaging).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors, paths
from jaxlm.optimizers import _matrices, _parts, optimizers
from jaxlm.types import Array


@optimizers.register(
  "adahessian", paper="arXiv:2006.00719", example={"learning_rate": 1e-3}
)
def adahessian(
  learning_rate,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-4,
  hessian_power: float = 1.0,
  weight_decay: float = 0.0,
  decay: _parts.Decay = "no_bias_norm",
  interval: int = 1,
  samples: int = 1,
  average: str | int = "inputs",
  seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
  """Adam whose squared gradient is the squared curvature estimate.

  `update` needs the extra argument `grad_fn` (parameters -> gradient of this
  step's loss), which the train step gives, and takes `hvp_fn` (tangents ->
  the Hessian times them), which saves one gradient a step. Gradients should
  not be clipped before: the curvature is not.

  Args:
    learning_rate: a schedule or a number.
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared curvatures.
    eps: added to the curvature's root mean square after the power.
    hessian_power: k of the paper, in (0, 1]: 1 is Newton-like, 0.5 Adam-like.
    weight_decay: times the learning rate, how much of a weight a step takes.
    decay: what decays; see `_parts.decay_mask`.
    interval: steps from one curvature estimate to the next.
    samples: random vectors of an estimate.
    average: "inputs" averages over the inputs of a matrix, a number over
      blocks of that many inputs, "none" not at all.
    seed: of the random signs.

  Raises:
    UserError: an unknown `decay` or `average`, an interval under 1.
  """
  if average not in ("inputs", "none") and not (
    isinstance(average, int) and average > 0
  ):
    raise errors.unknown(
      "config.optimizer.average has no", str(average), ("inputs", "none", "4")
    )
  if interval < 1 or samples < 1:
    raise errors.UserError(
      f"config.optimizer: interval={interval} and samples={samples}, expected "
      "1 or more."
    )
  scale = scale_by_adahessian(
    b1, b2, eps, hessian_power, interval, samples, average, seed
  )
  return _parts.float32(
    optax.chain(
      scale,
      optax.add_decayed_weights(weight_decay, _parts.decay_mask(decay)),
      _parts.scale_by_schedule(learning_rate),
    )
  )


class AdaHessianState(NamedTuple):
  """Running means of gradients and of squared, averaged curvatures."""

  count: Array  # shape=(), dtype=jnp.int32
  estimates: Array  # shape=(), dtype=jnp.int32
  mu: optax.Updates
  nu: optax.Updates


def scale_by_adahessian(
  b1: float,
  b2: float,
  eps: float,
  hessian_power: float,
  interval: int,
  samples: int,
  average: str | int,
  seed: int,
) -> optax.GradientTransformationExtraArgs:
  """mu / (sqrt(nu)**hessian_power + eps), both corrected for their bias.

  The second mean is corrected by the number of estimates, not of steps, so
  that it is the curvature itself where that is constant, at any interval.
  """

  def init(params):
    mu = jax.tree.map(jnp.zeros_like, params)
    zero = jnp.zeros((), jnp.int32)
    return AdaHessianState(zero, zero, mu, _averaged(mu, average))

  def update(
    updates, state, params=None, *, grad_fn=None, hvp_fn=None, **extra
  ):
    del extra
    if interval > 1:
      # What the product keeps of the gradient's pass would be kept each step.
      hvp_fn = None
    if grad_fn is None or params is None:
      raise ValueError(
        "adahessian's update needs the parameters and grad_fn=(parameters -> "
        "gradient of this step's loss)"
      )

    def fresh(nu):
      # From the step's number, so that a resumed run draws the same signs.
      key = jax.random.fold_in(jax.random.key(seed), state.count)
      diagonal = hutchinson(grad_fn, params, key, samples, hvp_fn)
      curvature = _averaged(diagonal, average)
      return optax.tree.update_moment_per_elem_norm(curvature, nu, b2, 2)

    due = state.count % interval == 0
    if interval == 1:
      nu = fresh(state.nu)
    else:
      nu = jax.lax.cond(due, fresh, lambda nu: nu, state.nu)
    count = optax.safe_increment(state.count)
    estimates = state.estimates + due.astype(jnp.int32)
    mu = optax.tree.update_moment(updates, state.mu, b1, 1)
    mean = optax.tree.bias_correction(mu, b1, count)
    square = optax.tree.bias_correction(nu, b2, estimates)

    def direction(m, v):
      v = _spread(v, m.shape, average)
      return m / (jnp.sqrt(v) ** hessian_power + eps)

    new = jax.tree.map(direction, mean, square)
    return new, AdaHessianState(count, estimates, mu, nu)

  return optax.GradientTransformationExtraArgs(init, update)


def hutchinson(grad_fn, params, key, samples: int = 1, hvp_fn=None):
  """E[z * H z] over random signs z: the Hessian's diagonal, float32.

  Args:
    grad_fn: parameters -> gradient.
    params: where the Hessian is taken.
    key: PRNG key; each leaf draws from its own.
    samples: random vectors to average over.
    hvp_fn: tangents -> the Hessian at `params` times them; by default a
      derivative of `grad_fn`.
  """
  if hvp_fn is None:
    hvp_fn = lambda signs: jax.jvp(grad_fn, (params,), (signs,))[1]
  leaves, tree = jax.tree.flatten(params)

  def one(key):
    signs = jax.tree.unflatten(
      tree,
      [
        jax.random.rademacher(jax.random.fold_in(key, i), p.shape, p.dtype)
        for i, p in enumerate(leaves)
      ],
    )
    return jax.tree.map(
      lambda z, h: z * h.astype(z.dtype), signs, hvp_fn(signs)
    )

  if samples == 1:
    return one(key)
  drawn = jax.lax.map(one, jax.random.split(key, samples))
  return jax.tree.map(lambda x: jnp.mean(x, axis=0), drawn)


def _averaged(diagonal, average):
  """Means of absolute values over inputs, kept at their reduced shape."""

  def one(path, leaf):
    axes = _matrices.input_axes(paths.name(path), leaf)
    size = jnp.abs(leaf)
    if average == "none" or not axes:
      return size
    if average == "inputs":
      return jnp.mean(size, axis=axes, keepdims=True)
    return _block_means(size, axes[-1], average)

  return jax.tree_util.tree_map_with_path(one, diagonal)


def _block_means(x, axis: int, block: int):
  """Means over blocks of an axis; the last may be shorter."""
  length = x.shape[axis]
  blocks = -(-length // block)
  padding = [(0, 0)] * x.ndim
  padding[axis] = (0, blocks * block - length)
  shape = (*x.shape[:axis], blocks, block, *x.shape[axis + 1 :])
  sums = jnp.sum(jnp.pad(x, padding).reshape(shape), axis=axis + 1)
  sizes = jnp.full(blocks, block, x.dtype)
  sizes = sizes.at[-1].set(length - (blocks - 1) * block)
  return sums / sizes.reshape(
    [blocks if i == axis else 1 for i in range(x.ndim)]
  )


def _spread(x, shape, average):
  """Reduced means at the shape that they were taken from."""
  if x.shape == tuple(shape) or average == "inputs":
    return jnp.broadcast_to(x, shape)
  axis = next(i for i, (a, b) in enumerate(zip(x.shape, shape)) if a != b)
  repeated = jnp.repeat(x, average, axis=axis)
  return jax.lax.slice_in_dim(repeated, 0, shape[axis], axis=axis)
