"""States of eight bits: codes, errors, sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.optimizers import _quantised
from tests.optimizers.common import build, draw, same, walk


@pytest.mark.parametrize(
  ("unsigned", "smallest"), [(False, 5.5e-7), (True, 3.25e-7)]
)
def test_codes_are_those_of_the_dynamic_type(unsigned, smallest):
  values = _quantised.codebook(unsigned)
  assert values.shape == (256,) and (np.diff(values) > 0).all()
  assert values[-1] == 1.0 and (values == 0).sum() == 1
  np.testing.assert_allclose(values[values > 0][0], smallest, rtol=1e-5)
  if not unsigned:
    np.testing.assert_allclose(values[0], -0.99297, rtol=1e-5)


def test_a_gaussian_comes_back_within_the_published_error():
  x = draw(64, 512)
  back = _quantised.decode(*_quantised.encode(x, False), False)
  error = jnp.linalg.norm(back - x) / jnp.linalg.norm(x)
  assert 0.009 < error < 0.0115  # 0.0108 in blocks of 256
  # Twice is once, where a block's largest value is positive: -1 has no code.
  x = x.at[:, ::256].set(9.0)
  once = _quantised.encode(x, False)
  again = _quantised.encode(_quantised.decode(*once, False), False)
  same(once, again)


def test_second_moments_never_vanish():
  x = jnp.float32([[1.0] + [1e-9] * 299])
  back = _quantised.decode(*_quantised.encode(x, True), True)
  assert (back > 0).all() and back[0, 0] == 1.0 and back.shape == x.shape
  zero = _quantised.decode(*_quantised.encode(0.0 * x, True), True)
  assert (zero == 0).all()


def test_states_are_a_quarter_and_steps_nearly_the_same():
  params = {"kernel": draw(64, 256), "bias": draw(64)}
  grad = lambda p: jax.tree.map(lambda x: x - 0.3, p)
  base = dict(kind="adamw", eps=1e-6)
  tx = build(kind="eight_bit", base=base, learning_rate=0.01)
  wide = build(**base, learning_rate=0.01)
  nbytes = lambda tx: sum(x.nbytes for x in jax.tree.leaves(tx.init(params)))
  assert nbytes(tx) / nbytes(wide) == pytest.approx(0.255, abs=0.01)
  found, expected = walk(tx, params, grad, 10), walk(wide, params, grad, 10)
  moved = jnp.linalg.norm(expected["kernel"] - params["kernel"])
  off = jnp.linalg.norm(expected["kernel"] - found["kernel"])
  # 0.0108 a rounding, of which the mean over steps keeps 1 / sqrt(1 - b1**2).
  assert off / moved < 0.0108 / (1 - 0.9**2) ** 0.5
  same(found["bias"], expected["bias"])
