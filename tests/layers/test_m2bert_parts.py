"""M2-BERT's feed-forward and block, by their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.blocks import blocks
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.norms import norms
from tests import tiny


def block_diagonal(**fields):
  spec = dict(kind="block_diagonal", hidden=48, width=32, **fields)
  return feedforwards.build(spec)


def inputs():
  return np.random.default_rng(1).standard_normal((2, 16, 32))


def dense(kernel):
  """The whole matrix [in, out] of blocks [groups, in, out]."""
  groups, rows, columns = kernel.shape
  whole = np.zeros((groups * rows, groups * columns))
  for i, block in enumerate(kernel):
    at = np.s_[i * rows : (i + 1) * rows, i * columns : (i + 1) * columns]
    whole[at] = block
  return whole


def test_it_is_one_block_diagonal_map_cut_into_gate_and_value():
  """As released: four blocks make [gate, value] of all features at once."""
  part, x = block_diagonal(), inputs()
  ctx = tiny.context()
  params = tiny.fill(tiny.shapes(part, jnp.asarray(x), ctx))
  out = part.apply(params, jnp.asarray(x), ctx)
  held = tiny.host(params["params"])
  both = np.concatenate([held["gate"]["kernel"], held["up"]["kernel"]])
  assert both.shape == (4, 8, 24)
  gate, value = np.split(x @ dense(both), 2, -1)
  gelu = np.asarray(primitives.gelu(jnp.asarray(gate)))
  expected = (gelu * value) @ dense(held["output"]["kernel"])
  np.testing.assert_allclose(out, expected + held["output"]["bias"], atol=1e-4)


def test_kernels_start_within_the_bounds_of_dense_maps():
  part = block_diagonal()
  params = part.init(jax.random.key(0), jnp.asarray(inputs()), tiny.context())
  params = tiny.nn.meta.unbox(params)["params"]
  for name, inner in (("gate", 32), ("up", 32), ("output", 48)):
    largest = np.abs(params[name]["kernel"]).max()
    bound = np.sqrt(4 / inner)
    assert 0.95 * bound < largest <= bound


@pytest.mark.parametrize("blocks_", [1, 3])
def test_blocks_fall_into_halves(blocks_):
  with pytest.raises(errors.UserError, match="take an even number"):
    tiny.shapes(
      block_diagonal(blocks=blocks_), jnp.asarray(inputs()), tiny.context()
    )


def test_nothing_leads_around_the_mixer():
  class Part(tiny.nn.Module):
    factor: float

    def __call__(self, x, ctx):
      return self.factor * x

  block = blocks.build(
    {"kind": "feedforward_residual"},
    mixer=Part(0.5),
    feedforward=Part(3.0),
    norm=lambda: norms.build({"kind": "layer_norm", "epsilon": 0.0}),
  )
  x = jnp.asarray(inputs(), jnp.float32)
  params = block.init(jax.random.key(0), x, tiny.context())
  out = block.apply(params, x, tiny.context())
  doubled = 2.0 * np.asarray(x)  # 0.5 x + 3 (0.5 x)
  mean, std = doubled.mean(-1, keepdims=True), doubled.std(-1, keepdims=True)
  np.testing.assert_allclose(out, (doubled - mean) / std, atol=1e-4)
