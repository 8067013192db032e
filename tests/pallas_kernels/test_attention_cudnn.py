"""cuDNN's attention: what is passed on to it, and what never is."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.flash_attention import bias as biases
from pallas_kernels.flash_attention import cudnn, flash_attention

L, H, D = 16, 2, 16
SEGMENTS = np.ones((1, L), np.int32)


def arrays(dtype="bfloat16", keys=L, head_dim=D, value_dim=D, key_heads=H):
  draw = lambda n, *shape: jax.random.normal(jax.random.key(n), shape, dtype)
  return (
    draw(0, 1, L, H, head_dim),
    draw(1, 1, keys, key_heads, head_dim),
    draw(2, 1, keys, key_heads, value_dim),
  )


REFUSED = {
  "ignores segments": ({}, dict(query_segments=SEGMENTS)),
  "rounds a bias": ({}, dict(bias=biases.Alibi(biases.alibi_slopes(H)))),
  "no soft cap": ({}, dict(soft_cap=2.0)),
  "bits of its own": (
    {},
    dict(dropout_rate=0.1, dropout_key=jax.random.key(0)),
  ),
  "not float32": (dict(dtype="float32"), {}),
  "width of keys": (dict(value_dim=8), {}),
  "multiple of 8": (dict(head_dim=12, value_dim=12), {}),
  "queries and keys differ": (dict(keys=20), dict(causal=True)),
  "places masks otherwise": ({}, dict(causal=True, query_offset=2)),
  "to the left alone": ({}, dict(window=(4, 4))),
  "windows to the left": ({}, dict(causal=True, window=(4, -1))),
  "windows": ({}, dict(window=(-1, 0))),
}


def direct(query, key, value, **options):
  """The backend itself, past the op's dispatch."""
  given = dict.fromkeys(
    ("bias", "query_segments", "key_segments", "window", "soft_cap")
  )
  given |= dict(query_offset=0, causal=False, scale=0.25)
  given |= dict(dropout_rate=0.0, dropout_key=None)
  return cudnn.attention(query, key, value, **(given | options))


@pytest.fixture
def on_gpu(monkeypatch):
  """As if compiled for an H200."""
  gpu = cudnn._platform.device("gpu", "NVIDIA H200")
  monkeypatch.setattr(cudnn._platform, "target", lambda tree: gpu)


@pytest.mark.parametrize("reason", REFUSED)
def test_refuses(reason, on_gpu):
  shapes, options = REFUSED[reason]
  with pytest.raises(NotImplementedError, match=reason):
    direct(*arrays(**shapes), **options)


def test_refuses_other_devices_and_probabilities():
  with pytest.raises(NotImplementedError, match="on GPUs, not on cpu"):
    direct(*arrays())
  with pytest.raises(NotImplementedError, match="probabilities"):
    direct(*arrays(), with_probabilities=True)


PASSED = {
  "plain": ({}, {}, {}),
  "fewer keys": (dict(keys=9, key_heads=1), {}, {}),
  "causal": ({}, dict(causal=True), dict(is_causal=True)),
  "offset without a mask": ({}, dict(query_offset=3), {}),
  "window": (
    {},
    dict(window=(4, 0)),
    dict(is_causal=True, local_window_size=(4, 0)),
  ),
  "causal window": (
    dict(dtype="float16"),
    dict(causal=True, window=(4, 7)),
    dict(is_causal=True, local_window_size=(4, 0)),
  ),
}


@pytest.mark.parametrize("name", PASSED)
def test_what_is_passed_on_means_the_same(name, on_gpu, monkeypatch):
  """What jax is told gives the reference's answer, computed by XLA."""
  shapes, options, told = PASSED[name]
  inner = jax.nn.dot_product_attention
  seen = {}

  def stand_in(query, key, value, *, implementation, **given):
    assert implementation == "cudnn"
    seen.update(given)
    return inner(query, key, value, implementation="xla", **given)

  monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
  query, key, value = arrays(**shapes)
  out = direct(query, key, value, **options)
  monkeypatch.undo()
  plain = dict(is_causal=False, local_window_size=None, scale=0.25)
  assert seen == plain | told
  expected = flash_attention(
    query, key, value, scale=0.25, implementation="reference", **options
  )
  np.testing.assert_allclose(
    np.asarray(out, np.float32), np.asarray(expected, np.float32), atol=2e-2
  )


def loss(query, key, value):
  out = direct(query, key, value, causal=True)
  return jnp.sum(out.astype(jnp.float32) ** 2)


def test_lowers_for_cuda(on_gpu, monkeypatch):
  """To cuDNN's calls, forward and backward; no scores in between."""
  module = importlib.import_module("jax._src.cudnn.fused_attention_stablehlo")
  monkeypatch.setattr(module, "check_cudnn_version", lambda: 91000)
  shape = jax.ShapeDtypeStruct((2, 128, 4, 64), jnp.bfloat16)
  traced = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(*(shape,) * 3)
  text = traced.lower(lowering_platforms=("cuda",)).as_text()
  assert text.count("__cudnn$fmhaSoftmaxBackward") == 1
  assert text.count("@__cudnn$fmhaSoftmax(") == 1
  assert "128x128x" not in text


def test_without_cudnn_it_says_so(on_gpu):
  """Compiled for a GPU on a machine that has no cuDNN."""
  try:
    out = jax.eval_shape(direct, *arrays())
  except NotImplementedError as error:
    assert "needs cuDNN" in str(error)
  else:  # there is one
    assert out.shape == (1, L, H, D)
