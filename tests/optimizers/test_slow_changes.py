"""Decay towards the beginning, and batches that grow."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm.errors import UserError
from tests.optimizers.common import build, draw, same


def test_prior_decay_pulls_matrices_back_to_where_they_began():
  start = {"kernel": draw(3, 4), "bias": draw(4)}
  tx = build(
    kind="prior_decay",
    weight_decay=0.5,
    base=dict(kind="adamw", weight_decay=0),
  )
  state = tx.init(start)
  moved = jax.tree.map(lambda x: x + 1.0, start)
  zero = jax.tree.map(jnp.zeros_like, start)
  step, _ = tx.update(zero, state, moved)
  np.testing.assert_allclose(step["kernel"], -0.1 * 0.5 * 1.0, rtol=1e-6)
  assert (step["bias"] == 0).all()
  step, _ = tx.update(zero, state, start)
  assert (step["kernel"] == 0).all()


def test_updates_take_the_mean_of_more_and_more_batches():
  params, base = {"kernel": draw(3, 4)}, dict(kind="adamw", eps=1e-6)
  tx = build(kind="accumulate", base=base, every=[(0, 1), (2, 2), (4, 3)])
  grads = [{"kernel": draw(3, 4, seed=s)} for s in range(7)]
  mean = lambda *g: jax.tree.map(lambda *x: sum(x) / len(x), *g)
  groups = [grads[0], grads[1], mean(*grads[2:4]), mean(*grads[4:7])]
  state, found = tx.init(params), params
  moved = []
  for g in grads:
    step, state = tx.update(g, state, found)
    moved.append(bool(jnp.any(step["kernel"] != 0)))
    found = optax.apply_updates(found, step)
  assert moved == [True, True, False, True, False, False, True]
  plain, expected = build(**base), params
  state = plain.init(params)
  for g in groups:
    step, state = plain.update(g, state, expected)
    expected = optax.apply_updates(expected, step)
  same(found, expected, 1e-6)


def test_stages_begin_at_0_and_rise():
  base = dict(kind="adamw")
  for every in ([(5, 1)], [(0, 1), (0, 2)], 0, [(0, 0)]):
    with pytest.raises(UserError, match="config.optimizer.every"):
      build(kind="accumulate", base=base, every=every)
