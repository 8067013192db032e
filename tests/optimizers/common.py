"""What tests of optimizers share: short runs on small trees."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlm.optimizers import optimizers


def build(**spec):
  return optimizers.build({"learning_rate": 0.1, **spec})


def draw(*shape, seed=0):
  rng = np.random.Generator(np.random.Philox(seed))
  return jnp.float32(rng.standard_normal(shape))


def walk(tx, params, grad, count=3):
  state = tx.init(params)
  for _ in range(count):
    updates, state = tx.update(grad(params), state, params, grad_fn=grad)
    params = optax.apply_updates(params, updates)
  return params


def same(a, b, tolerance=0.0):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance
    ),
    a,
    b,
  )
