"""The context of a forward pass."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.context import Context, capture, positions_of
from tests import tiny


def test_positions_restart_in_every_document():
  segments = np.array(
    [
      [1, 1, 1, 2, 2, 3, 0, 0],
      [0, 0, 1, 1, 1, 1, 1, 1],  # padded on the left
      [1, 1, 1, 1, 1, 1, 1, 1],
      [0, 0, 0, 0, 0, 0, 0, 0],
    ],
    np.int32,
  )
  found = positions_of(jnp.asarray(segments))
  assert found.dtype == jnp.int32
  np.testing.assert_array_equal(found[:3], tiny.positions(segments)[:3])
  np.testing.assert_array_equal(found[1], [0, 1, 0, 1, 2, 3, 4, 5])
  np.testing.assert_array_equal(jax.jit(positions_of)(segments), found)


def test_mask_is_where_segments_are():
  ctx = tiny.context()
  np.testing.assert_array_equal(ctx.mask, tiny.SEGMENTS > 0)


def test_context_is_arrays_with_static_facts():
  ctx = tiny.context(train=True, capture=frozenset({"hidden"}))
  # Segments and positions, of the tokens and of what a decoder reads; vectors.
  assert len(jax.tree.leaves(ctx)) == 5
  back = jax.jit(lambda c: c)(ctx)
  assert isinstance(back, Context)
  assert back.train is True and back.capture == {"hidden"}


class _Sower(nn.Module):
  @nn.compact
  def __call__(self, ctx):
    capture(self, ctx, "wanted", ctx.positions)
    capture(self, ctx, "other", ctx.positions)


def test_capture_keeps_what_was_asked_for():
  ctx = tiny.context(capture=frozenset({"wanted"}))
  _, kept = _Sower().apply({}, ctx, mutable=["intermediates"])
  assert list(kept["intermediates"]) == ["wanted"]
  np.testing.assert_array_equal(
    kept["intermediates"]["wanted"][0], ctx.positions
  )
