"""Batch-size warm-up: an update for every so many batches, more and more.

ModernBERT (arXiv:2412.13663) and others begin with small batches, which learn
as much from fewer tokens while gradients are large. `config.batch_size` is
the smallest batch here; an update takes the mean gradient of `every` of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors
from jaxlm.optimizers import _parts, optimizers
from jaxlm.types import Array


class AccumulateState(NamedTuple):
  """Batches so far, those in the sum, the sum, and the base's state."""

  batches: Array  # shape=(), dtype=jnp.int32
  held: Array  # shape=(), dtype=jnp.int32
  sums: Any  # float32
  base: Any


_OF_THE_BATCH = ("grad_fn", "hvp_fn", "obj_fn")


@optimizers.register(
  "accumulate",
  paper="arXiv:2412.13663",
  example={"learning_rate": 1e-3, "base": {"kind": "adamw"}, "every": 1},
)
def accumulate(
  learning_rate,
  base: Mapping,
  every: int | Sequence[tuple[int, int]] = 1,
  clip_norm: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
  """`base` on the mean gradient of several batches; between, nothing moves.

  Schedules count batches, so that they follow tokens whatever the size.
  The base must live from gradients alone: it is not given `grad_fn` and the
  like, which would be of the last batch.

  Args:
    learning_rate: a schedule or a number.
    base: spec of an optimizer, without its learning rate.
    every: batches of an update, or [(first batch, batches of an update from
      there on), ...], beginning with batch 0.
    clip_norm: largest norm of the mean gradient, 0 is off. (The train step
      clips each batch's.)

  Raises:
    UserError: numbers under 1, or firsts that do not rise from 0.
  """
  stages = [(0, every)] if isinstance(every, int) else [tuple(s) for s in every]
  firsts = [first for first, _ in stages]
  if firsts[:1] != [0] or firsts != sorted(set(firsts)):
    raise errors.UserError(
      f"config.optimizer.every begins its stages at batches {firsts}, expected "
      "rising numbers from 0."
    )
  if any(count < 1 for _, count in stages):
    raise errors.UserError(
      f"config.optimizer.every is {every!r}, expected batches of 1 or more."
    )
  tx = optax.with_extra_args_support(
    optimizers.build(dict(base), learning_rate=learning_rate)
  )
  starts, counts = (jnp.asarray(x, jnp.int32) for x in zip(*stages))

  def init(params):
    zero = jnp.zeros((), jnp.int32)
    sums = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
    return AccumulateState(zero, zero, sums, tx.init(params))

  def update(updates, state, params=None, *, schedule_step=None, **extra):
    at = state.batches if schedule_step is None else schedule_step
    extra = {k: v for k, v in extra.items() if k not in _OF_THE_BATCH}
    extra["schedule_step"] = at
    sums = jax.tree.map(jnp.add, state.sums, updates)
    held = state.held + 1
    wanted = counts[jnp.sum(state.batches >= starts) - 1]

    def move(sums):
      mean = jax.tree.map(
        lambda s, u: (s / held).astype(u.dtype), sums, updates
      )
      mean = _parts.clipped(mean, clip_norm)
      new, inner = tx.update(mean, state.base, params, **extra)
      return new, jax.tree.map(jnp.zeros_like, sums), inner

    def wait(sums):
      return jax.tree.map(jnp.zeros_like, updates), sums, state.base

    due = held >= wanted
    new, sums, inner = jax.lax.cond(due, move, wait, sums)
    return new, AccumulateState(
      optax.safe_increment(state.batches),
      jnp.where(due, 0, held),
      sums,
      inner,
    )

  return optax.GradientTransformationExtraArgs(init, update)
