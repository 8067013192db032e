"""Vectors of sentences: pooled states and their projection."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.layers.heads import heads
from tests import tiny

HIDDEN = jnp.asarray(
  np.random.default_rng(0).standard_normal((tiny.BATCH, tiny.LENGTH, 32)),
  jnp.float32,
)
PLACES = np.array([[0, 6], [5, 9]], np.int32)  # of two segments each


def run(train=False, **fields):
  """(output [2, 2, 32], parameters) of a head."""
  head = heads.build(dict(kind="embed", **fields))
  ctx = tiny.context(train=train)
  inputs = (HIDDEN, {"cls_positions": PLACES}, None, ctx)
  params = tiny.fill(tiny.shapes(head, *inputs))
  return np.asarray(head.apply(params, *inputs)), tiny.host(params)


def test_pooling_reads_the_place_or_the_mean_of_its_segment():
  rows = np.arange(2)[:, None]
  hidden = np.asarray(HIDDEN)
  np.testing.assert_array_equal(run()[0], hidden[rows, PLACES])
  found, _ = run(pooling="mean")
  for row in range(2):
    for k, place in enumerate(PLACES[row]):
      own = tiny.SEGMENTS[row] == tiny.SEGMENTS[row, place]
      mean = hidden[row, own].astype(np.float64).mean(0)
      np.testing.assert_allclose(found[row, k], mean, atol=1e-6)


def test_the_projection_is_kept_or_left_out_after_training():
  plain, _ = run()
  kept, params = run(projection="kept")
  dense = params["params"]["projection"]
  slow = np.tanh(plain @ dense["kernel"] + dense["bias"])
  np.testing.assert_allclose(kept, slow, atol=1e-5)
  np.testing.assert_array_equal(run(projection="training")[0], plain)
  trained, _ = run(train=True, projection="training")
  np.testing.assert_allclose(trained, slow, atol=1e-5)


def test_wrong_fields_are_told():
  with pytest.raises(UserError, match="pooling cannot be 'max'"):
    heads.build(dict(kind="embed", pooling="max"))
  with pytest.raises(UserError, match="projection cannot be 'keep'.*'kept'"):
    heads.build(dict(kind="embed", projection="keep"))
