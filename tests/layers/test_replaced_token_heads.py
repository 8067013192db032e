"""The heads that tell replaced tokens, against their formulas."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.layers.heads import heads
from tests import tiny

WIDTH = 8


def run(kind, ctx):
  head = heads.build({"kind": kind}, norm=dict(kind="layer_norm", epsilon=1e-6))
  random = np.random.default_rng(0)
  hidden = random.normal(size=(*tiny.SEGMENTS.shape, WIDTH))
  hidden = jnp.asarray(hidden, jnp.float32)
  variables = tiny.fill(tiny.shapes(head, hidden, {}, None, ctx))
  out = jax.jit(lambda v, h: head.apply(v, h, {}, None, ctx))(variables, hidden)
  return np.asarray(hidden, np.float64), tiny.host(variables["params"]), out


def judged(x, params):
  x = x @ params["transform"]["kernel"] + params["transform"]["bias"]
  cdf = np.vectorize(lambda v: 0.5 * (1 + math.erf(v / 2**0.5)))
  return (x * cdf(x)) @ params["score"]["kernel"] + params["score"]["bias"]


def test_electras_head():
  hidden, params, out = run("replaced_token", tiny.context())
  assert out.shape == (*tiny.SEGMENTS.shape, 1)
  np.testing.assert_allclose(out, judged(hidden, params), atol=1e-5)


def test_debertas_head_reads_the_first_token_of_the_same_document():
  hidden, params, out = run("replaced_token_in_context", tiny.context())
  place = np.arange(tiny.LENGTH) - tiny.positions(tiny.SEGMENTS)
  first = np.take_along_axis(hidden, place[..., None], axis=1)
  x = hidden + first
  x = x - x.mean(-1, keepdims=True)
  x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
  norm = params["norm"]["norm"]
  expected = judged(x * norm["scale"] + norm["bias"], params)
  np.testing.assert_allclose(out, expected, atol=1e-4)
  # Token 7 is the second of the second document, whose first is at 6.
  assert place[0, 7] == 6 and place[1, 6] == 5


@pytest.mark.parametrize(
  "kind", ["replaced_token", "replaced_token_in_context"]
)
def test_logits_are_float32_of_narrow_states(kind):
  head = heads.build(
    {"kind": kind}, dtype=jnp.bfloat16, norm=dict(kind="layer_norm")
  )
  hidden = jnp.zeros((*tiny.SEGMENTS.shape, WIDTH), jnp.bfloat16)
  out, _ = jax.eval_shape(
    lambda: head.init_with_output(
      jax.random.key(0), hidden, {}, None, tiny.context()
    )
  )
  assert out.dtype == jnp.float32
