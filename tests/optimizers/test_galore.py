"""GaLore's subspaces."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlm.optimizers import galore
from tests.optimizers.common import build, draw, same


def test_full_rank_of_the_short_side_loses_nothing():
  plain = optax.identity()
  for shape in ((4, 6), (6, 4), (2, 4, 6)):
    name = "loop/kernel" if len(shape) == 3 else "kernel"
    g = draw(*shape)
    basis = galore.leading(g, 4)
    small = galore.down(g, basis)
    assert min(small.shape[-2:]) == 4
    same(galore.up(small, basis, shape), g, 2e-6)
    eye = jnp.swapaxes(basis, -1, -2) @ basis
    same(eye, jnp.broadcast_to(jnp.eye(4), eye.shape), 2e-6)
    assert not galore.low(name, g, 4) and galore.low(name, g, 3)
  tx = galore.project(plain, 2, 10, 1.0)
  low = {"kernel": draw(6, 2) @ draw(2, 4, seed=1)}
  step, _ = tx.update(low, tx.init(low))
  same(step, low, 3e-6)


def test_galore_is_adam_in_the_subspace():
  """By hand: one step from zero moments is sign-like in the projection."""
  g = {"kernel": draw(3, 5), "bias": draw(5)}
  tx = build(kind="galore", rank=2, scale=0.5, eps=1e-12)
  step, state = tx.update(g, tx.init(g), g)
  basis = galore.leading(g["kernel"], 2)
  expected = -0.1 * 0.5 * basis @ jnp.sign(basis.T @ g["kernel"])
  same(step["kernel"], expected, 1e-5)
  same(step["bias"], -0.1 * jnp.sign(g["bias"]), 1e-5)
  shapes = sorted(x.shape for x in jax.tree.leaves(state) if x.ndim == 2)
  assert shapes == [(2, 5), (2, 5), (3, 2)]


def test_subspaces_change_only_when_due():
  params = {"kernel": draw(4, 6)}
  tx = galore.project(optax.identity(), 2, 3, 1.0)
  state, bases = tx.init(params), []
  for seed in range(4):
    _, state = tx.update({"kernel": draw(4, 6, seed=seed)}, state)
    bases.append(np.asarray(state.bases["kernel"]))
  same(bases[0], bases[1])
  same(bases[0], bases[2])
  assert np.abs(bases[3] - bases[0]).max() > 0.1
