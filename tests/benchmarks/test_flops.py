"""Counted FLOPs against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import _flops


def test_products_convolutions_and_loops():
  x, w = jnp.ones((3, 5)), jnp.ones((5, 7))
  assert _flops.count(lambda x, w: x @ w, x, w) == 2 * 3 * 5 * 7
  assert _flops.count(jax.jit(lambda x, w: jnp.tanh(x @ w)), x, w) == 210
  # One product forward, two backward.
  loss = jax.grad(lambda x, w: jnp.sum(jnp.sin(x @ w)), argnums=(0, 1))
  assert _flops.count(loss, x, w) == 3 * 210

  def loop(x):
    turn = lambda x, _: (x @ jnp.ones((5, 5)), None)
    return jax.lax.scan(turn, x, None, length=4)[0]

  assert _flops.count(loop, x) == 4 * 2 * 3 * 5 * 5
  assert _flops.count(jax.checkpoint(loop), x) == 600
  image, kernel = jnp.ones((2, 8, 6)), jnp.ones((3, 2, 4))

  def convolve(x, k):
    return jax.lax.conv_general_dilated(
      x,
      k,
      (1,),
      "SAME",
      dimension_numbers=("NWC", "WIO", "NWC"),
      feature_group_count=3,
    )

  kernel = jnp.ones((3, 2, 6))
  assert _flops.count(convolve, image, kernel) == 2 * (2 * 8 * 6) * 3 * 2


def test_fft_by_the_usual_formula():
  x = jnp.ones((2, 16))
  assert _flops.count(jnp.fft.fft, x) == 5 * 32 * 4
  assert _flops.count(jnp.fft.rfft, x) == 2.5 * 32 * 4


def test_an_unknown_length_is_told():
  def loop(x):
    return jax.lax.while_loop(
      lambda x: jnp.sum(x) < 9, lambda x: x @ jnp.ones((5, 5)), x
    )

  with pytest.raises(ValueError, match="no known length"):
    _flops.count(loop, jnp.ones((5, 5)))
