"""What optimizers share: float32 states, decay masks, the schedule."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors, paths
from jaxlm.types import Array

# Biases, and scales of norms (also called 'norm', 'attention_norm', ...). The
# path decides beside the rank: a scanned bias has rank 2.
_UNDECAYED = r"(^|/)(bias|scale)$|(^|[/_])norm(_[^/]*)?(/|$)"

# Parameters of a scanned stack: their leading axis counts layers, each of
# which is a tensor of its own (see layers/stacks/scan.py).
STACKED = r"(^|/)loop/"

Decay = str | Sequence[tuple[str, bool]]


def decay_mask(decay: Decay) -> Callable[[Any], Any]:
  """Which parameters decay, as a function of the tree that optax calls.

  Args:
    decay: `no_bias_norm` (matrices and tables), `all`, or rules of (regular
      expression searched in the path, whether it decays), which must cover
      every parameter.

  Raises:
    UserError: another word; and, when called, a parameter without a rule.
  """
  if decay == "all":
    return lambda params: jax.tree.map(lambda _: True, params)
  if decay == "no_bias_norm":
    return _matrices
  if isinstance(decay, str):
    raise errors.unknown(
      "config.optimizer.decay has no", decay, ("all", "no_bias_norm")
    )
  rules = [(pattern, bool(decays)) for pattern, decays in decay]
  return lambda params: paths.label(params, rules)


def _matrices(params):
  named = paths.label(params, [(_UNDECAYED, False), ("", True)])
  return jax.tree.map(lambda use, p: use and p.ndim > 1, named, params)


def float32(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Runs `inner` on float32 gradients and parameters, with float32 state.

  Its updates come back in the dtype of the gradients' parameters.
  """
  inner = optax.with_extra_args_support(inner)

  def init(params):
    return inner.init(_cast(params))

  def update(updates, state, params=None, **extra):
    wide = None if params is None else _cast(params)
    new, state = inner.update(_cast(updates), state, wide, **extra)
    like = updates if params is None else params
    return jax.tree.map(lambda n, o: n.astype(o.dtype), new, like), state

  return optax.GradientTransformationExtraArgs(init, update)


def _cast(tree):
  # Not below what it is: tests run in float64.
  return jax.tree.map(
    lambda x: jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32)), tree
  )


def clipped(grads, limit: float):
  """Gradients scaled down to a global norm of `limit`; 0 is off."""
  if not limit:
    return grads
  factor = limit / jnp.maximum(optax.tree.norm(grads), limit)
  return jax.tree.map(lambda g: g * factor.astype(g.dtype), grads)


def scaled(learning_rate, factor: float):
  """The schedule or number times `factor`."""
  if callable(learning_rate):
    return lambda at: factor * learning_rate(at)
  return factor * learning_rate


class ScheduleState(NamedTuple):
  """State of `scale_by_schedule`: the updates so far."""

  count: Array  # shape=(), dtype=jnp.int32


def scale_by_schedule(
  learning_rate: float | Callable[[Array], Array],
) -> optax.GradientTransformationExtraArgs:
  """Multiplies updates by minus the learning rate.

  The schedule is read at the extra argument `schedule_step` where the train
  step gives one, else at the number of updates so far.
  """
  schedule = learning_rate
  if not callable(schedule):
    schedule = lambda _: jnp.float32(learning_rate)

  def init(params):
    del params
    return ScheduleState(jnp.zeros((), jnp.int32))

  def update(updates, state, params=None, *, schedule_step=None, **extra):
    del params, extra
    rate = schedule(state.count if schedule_step is None else schedule_step)
    updates = jax.tree.map(lambda u: u * (-rate).astype(u.dtype), updates)
    return updates, ScheduleState(optax.safe_increment(state.count))

  return optax.GradientTransformationExtraArgs(init, update)


def split(
  chosen: Callable[[str, Any], bool],
  first: optax.GradientTransformation,
  rest: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """`first` for the parameters that are chosen by (path, leaf), else `rest`.

  Both see flat dicts {path: leaf}, so that paths keep their names.
  """
  parts = (
    optax.with_extra_args_support(first),
    optax.with_extra_args_support(rest),
  )

  def shares(tree):
    halves: tuple[dict, dict] = ({}, {})
    for path, leaf in paths.flatten(tree).items():
      halves[0 if chosen(path, leaf) else 1][path] = leaf
    return halves

  def init(params):
    return tuple(tx.init(own) for tx, own in zip(parts, shares(params)))

  def update(updates, state, params=None, **extra):
    held = (None, None) if params is None else shares(params)
    new, states = {}, []
    for tx, own, at, mine in zip(parts, shares(updates), state, held):
      found, at = tx.update(own, at, mine, **extra)
      new |= found
      states.append(at)
    return paths.like(updates, new), tuple(states)

  return optax.GradientTransformationExtraArgs(init, update)
