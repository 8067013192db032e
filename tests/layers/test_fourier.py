"""FNet's Fourier mixer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import errors, recipe
from jaxlm.layers.mixers import mixers
from jaxlm.models import assembly
from jaxlm.types import Task
from tests import tiny

FULL = np.ones((2, 16), np.int32)


def draw(*shape):
  return np.random.default_rng(0).standard_normal(shape)


def mix(x, segments, **fields):
  part = mixers.build(dict(kind="fourier", **fields))
  return np.asarray(part.apply({}, jnp.asarray(x), tiny.context(segments)))


def test_it_is_the_definition():
  """Sums of cosines, in float64; numpy's transform too."""
  x = draw(2, 16, 12)
  n, d = np.arange(16), np.arange(12)
  angle = (n[:, None] * n / 16)[:, None, :, None] + (d[:, None] * d / 12)[
    None, :, None, :
  ]
  slow = np.einsum("bnd,kjnd->bkj", x, np.cos(2 * np.pi * angle))
  with jax.enable_x64(True):
    found = mix(x, FULL)
  np.testing.assert_allclose(found, slow, atol=1e-11)
  np.testing.assert_allclose(found, np.fft.fft2(x).real, atol=1e-11)


def test_padding_counts_as_0_unless_parity_is_asked_for():
  x = draw(2, 16, 8).astype(np.float32)
  pads = tiny.SEGMENTS[..., None] == 0
  np.testing.assert_array_equal(
    mix(x, tiny.SEGMENTS), mix(np.where(pads, 0, x), FULL)
  )
  released = mix(x, tiny.SEGMENTS, parity=True)
  np.testing.assert_array_equal(released, mix(x, FULL))


def test_a_longer_row_is_another_transform():
  """The caveat: padding behind a text changes what comes out of it."""
  x = draw(1, 8, 8).astype(np.float32)
  longer = np.pad(x, ((0, 0), (0, 8), (0, 0)))
  segments = np.array([[1] * 8 + [0] * 8], np.int32)
  difference = mix(longer, segments)[:, :8] - mix(x, segments[:, :8])
  assert np.abs(difference).max() > 1.0


def test_it_cannot_decode():
  with pytest.raises(errors.UserError, match="'fourier' looks ahead"):
    part = mixers.build(dict(kind="fourier"))
    part.apply({}, jnp.ones((1, 4, 8)), tiny.context(cache_length=4))


def test_it_has_no_scores():
  spec = tiny.model_spec(
    positions=dict(kind="alibi"),
    layers=dict(
      layer=tiny.layer() | dict(mixer=dict(kind="fourier")),
    ),
  )
  with pytest.raises(errors.UserError, match="mixer is 'fourier'"):
    assembly.build(spec, vocab_size=tiny.VOCAB)
  spec["positions"] = dict(kind="none")
  model, params = tiny.build(spec)
  assert "documents" in assembly.leaks(model)["Fourier"]
  task = Task("a", {"inputs": jax.ShapeDtypeStruct((4, 8), jnp.int32)}, None, 4)
  short = recipe.flops_per_step(spec, params["params"], task)
  task.batch_spec["inputs"] = jax.ShapeDtypeStruct((4, 80), jnp.int32)
  assert recipe.flops_per_step(spec, params["params"], task) == 10 * short
