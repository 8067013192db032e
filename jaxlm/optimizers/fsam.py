"""FSAM (Zhong et al., arXiv:2210.05497): SAM where the Fisher is large.

Only the parameters with the largest empirical Fisher information are moved
before the gradient is taken. The mask is the paper's: from squared gradients
of single examples, chosen over all parameters at once. (The released code
squares the mean gradient of a batch, leaves biases and tables wholly
perturbed, and skips the step at which it refreshes.)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors
from jaxlm.optimizers import _parts, optimizers, sam
from jaxlm.types import Array

_HALVINGS = 40  # of an interval of log F: finer than float32


class FsamState(NamedTuple):
  """Steps so far, what is perturbed, and the state of the base."""

  count: Array  # shape=(), dtype=jnp.int32
  mask: Any  # bool, like the parameters
  base: Any


@optimizers.register(
  "fsam",
  paper="arXiv:2210.05497",
  example={"learning_rate": 1e-3, "base": {"kind": "adamw"}, "refresh": 2},
)
def fsam(
  learning_rate,
  base: Mapping,
  rho: float = 0.05,
  keep: float = 0.5,
  refresh: int = 100,
  rows: int = 16,
  renormalize: bool = False,
  clip_norm: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
  """`base` on the gradient at the worst point among the masked ones.

  A step costs two gradients, as SAM's; a refresh costs `rows` single-row
  gradients more. `update` needs the extra arguments `grad_fn` and `fisher_fn`
  (parameters, rows -> mean squared gradient of single rows), which the train
  step gives.

  Args:
    learning_rate: a schedule or a number.
    base: spec of an optimizer, without its learning rate.
    rho: radius of the ball.
    keep: share of all parameters that may be perturbed.
    refresh: steps from one mask to the next.
    rows: examples that a mask is estimated from.
    renormalize: stretch the masked perturbation to the radius; the paper
      does not.
    clip_norm: largest norm of the perturbed gradient, 0 is off.

  Raises:
    UserError: a share out of 0..1, a negative radius, steps or rows under 1.
  """
  if not 0 <= keep <= 1 or rho < 0 or refresh < 1 or rows < 1:
    raise errors.UserError(
      f"config.optimizer: rho={rho}, keep={keep}, refresh={refresh} and "
      f"rows={rows}, expected rho >= 0, 0 <= keep <= 1, refresh >= 1 and "
      "rows >= 1."
    )
  tx = optax.with_extra_args_support(
    optimizers.build(dict(base), learning_rate=learning_rate)
  )

  def init(params):
    mask = jax.tree.map(lambda p: jnp.zeros(p.shape, bool), params)
    return FsamState(jnp.zeros((), jnp.int32), mask, tx.init(params))

  def update(
    updates, state, params=None, *, grad_fn=None, fisher_fn=None, **extra
  ):
    if grad_fn is None or fisher_fn is None or params is None:
      raise ValueError(
        "fsam's update needs the parameters, grad_fn=(parameters -> gradient "
        "of this step's loss) and fisher_fn=(parameters, rows -> mean squared "
        "gradient of single rows)"
      )
    mask = jax.lax.cond(
      state.count % refresh == 0,
      lambda mask: largest(fisher_fn(params, rows), keep),
      lambda mask: mask,
      state.mask,
    )
    step = sam.perturbation(updates, params, rho)
    step = jax.tree.map(lambda m, e: jnp.where(m, e, 0.0), mask, step)
    if renormalize:
      factor = rho / (optax.tree.norm(step) + 1e-12)
      step = jax.tree.map(lambda e: factor * e, step)
    grads = sam.gradient_at(grad_fn, params, step, updates)
    grads = _parts.clipped(grads, clip_norm)
    new, inner = tx.update(grads, state.base, params, grad_fn=grad_fn, **extra)
    return new, FsamState(optax.safe_increment(state.count), mask, inner)

  return optax.GradientTransformationExtraArgs(init, update)


def largest(tree, keep: float):
  """True at the largest share `keep` of all entries of a tree together.

  The threshold is found by halving, since sorting 1e8 entries would cost more
  than the step. Ties with the threshold are all left out or all kept; zeros
  are never kept, unless all is.

  Args:
    tree: entries of at least 0.
    keep: share of the entries, 0 to 1.
  """
  if keep == 1:
    return jax.tree.map(lambda x: jnp.ones(x.shape, bool), tree)
  logs = jax.tree.map(lambda x: jnp.log(x.astype(jnp.float32)), tree)
  leaves = jax.tree.leaves(logs)
  wanted = keep * sum(leaf.size for leaf in leaves)
  finite = [jnp.where(jnp.isfinite(x), x, jnp.inf) for x in leaves]
  low = jnp.min(jnp.stack([jnp.min(x) for x in finite]))
  high = jnp.max(jnp.stack([jnp.max(x) for x in leaves])) + 1.0

  def halve(_, bounds):
    low, high = bounds
    middle = (low + high) / 2
    # Counted in float32: exact to 2**24, and to 1e-7 of the count beyond.
    kept = sum(jnp.sum(x >= middle, dtype=jnp.float32) for x in leaves)
    above = kept > wanted
    return jnp.where(above, middle, low), jnp.where(above, high, middle)

  # Unless already the lowest one keeps few enough.
  all_kept = sum(jnp.sum(x >= low, dtype=jnp.float32) for x in leaves)
  _, threshold = jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))
  threshold = jnp.where(all_kept <= wanted, low, threshold)
  return jax.tree.map(lambda x: x >= threshold, logs)
