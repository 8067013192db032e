"""Sharpness-aware minimization: SAM (Foret et al., arXiv:2010.01412), ASAM.

The gradient is taken where the loss is highest within a ball around the
weights, and moves the weights themselves. ASAM (Kwon et al.,
arXiv:2102.11600) measures the ball in units of each weight's size.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors
from jaxlm.optimizers import _parts, optimizers
from jaxlm.types import Array


class SamState(NamedTuple):
  """Steps so far and the state of the base."""

  count: Array  # shape=(), dtype=jnp.int32
  base: Any


@optimizers.register(
  "sam",
  paper="arXiv:2010.01412",
  example={"learning_rate": 1e-3, "base": {"kind": "adamw"}},
)
def sam(
  learning_rate,
  base: Mapping,
  rho: float = 0.05,
  adaptive: bool = False,
  eta: float = 0.0,
  interval: int = 1,
  clip_norm: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
  """`base` on the gradient at the worst point within `rho`.

  A step costs two gradients; with an interval, only every interval-th does.
  `update` needs the extra argument `grad_fn` (parameters -> gradient of this
  step's loss, with this step's dropout), which the train step gives.

  Args:
    learning_rate: a schedule or a number.
    base: spec of an optimizer, without its learning rate.
    rho: radius of the ball; ASAM's is 10 to 40 times SAM's.
    adaptive: ASAM: directions are measured in units of |weight| + eta.
    eta: see `adaptive`.
    interval: steps from one perturbed gradient to the next; plain ones lie
      between.
    clip_norm: largest norm of the perturbed gradient, 0 is off. (The train
      step clips the gradient that SAM climbs, to no effect.)

  Raises:
    UserError: a negative rho, an interval under 1.
  """
  if rho < 0.0 or interval < 1:
    raise errors.UserError(
      f"config.optimizer: rho={rho} and interval={interval}, expected rho >= 0 "
      "and interval >= 1."
    )
  tx = optax.with_extra_args_support(
    optimizers.build(dict(base), learning_rate=learning_rate)
  )

  def init(params):
    return SamState(jnp.zeros((), jnp.int32), tx.init(params))

  def update(updates, state, params=None, *, grad_fn=None, **extra):
    if grad_fn is None or params is None:
      raise ValueError(
        "sam's update needs the parameters and grad_fn=(parameters -> gradient "
        "of this step's loss)"
      )

    def climbed(grads):
      step = perturbation(grads, params, rho, adaptive=adaptive, eta=eta)
      return gradient_at(grad_fn, params, step, grads)

    if interval == 1:
      grads = climbed(updates)
    else:
      due = state.count % interval == 0
      grads = jax.lax.cond(due, climbed, lambda grads: grads, updates)
    grads = _parts.clipped(grads, clip_norm)
    new, inner = tx.update(grads, state.base, params, grad_fn=grad_fn, **extra)
    return new, SamState(optax.safe_increment(state.count), inner)

  return optax.GradientTransformationExtraArgs(init, update)


def gradient_at(grad_fn, params, step, like):
  """The gradient at params + step, in the dtypes of `like`."""
  # Wide: a small step would be lost in bfloat16 weights.
  there = jax.tree.map(lambda p, e: p.astype(e.dtype) + e, params, step)
  return jax.tree.map(lambda f, g: f.astype(g.dtype), grad_fn(there), like)


def perturbation(grads, params, rho, *, adaptive=False, eta=0.0):
  """rho * g / |g|; ASAM: rho * t**2 g / |t g| with t = |weight| + eta.

  Args:
    grads: the gradient at the weights.
    params: the weights.
    rho: radius.
    adaptive: ASAM's.
    eta: see above.

  Returns:
    A tree of float32 (or wider), zero where the gradient is.
  """
  wide = lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32))
  grads, params = jax.tree.map(wide, grads), jax.tree.map(wide, params)
  if adaptive:
    sizes = jax.tree.map(lambda p: jnp.abs(p) + eta, params)
  else:
    sizes = jax.tree.map(jnp.ones_like, params)
  scaled = jax.tree.map(jnp.multiply, sizes, grads)
  factor = rho / (optax.tree.norm(scaled) + 1e-12)
  return jax.tree.map(lambda s, t: factor * s * t, scaled, sizes)
