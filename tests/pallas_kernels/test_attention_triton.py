"""Attention in Pallas Triton, interpreted, against the float64 oracle."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core as extend

from pallas_kernels.flash_attention import flash_attention, triton
from pallas_kernels.flash_attention.operands import Operands, Static
from pallas_kernels.flash_attention.triton import blocks as blocks_lib
from tests.pallas_kernels import attention_contract
from tests.pallas_kernels.attention_contract import AttentionContract, Case


class TestTriton(AttentionContract):
  """Everything, on any device, by Pallas' interpreter."""

  implementation = "triton:interpret"


def _operands(queries=64, keys=64, channels=32, dtype=jnp.float32, **others):
  shapes = {"query": queries, "key": keys, "value": keys}
  rng = np.random.default_rng(0)
  arrays = {
    name: jnp.asarray(rng.standard_normal((2, length, 2, channels)), dtype)
    for name, length in shapes.items()
  }
  return Operands(**arrays, **others)


def _static(**options):
  return Static(scale=0.2, interpret=True, **options)


def _eqns(jaxpr):
  """All equations, those of inner functions and kernels too."""
  for eqn in jaxpr.eqns:
    yield eqn
    for inner in extend.jaxprs_in_params(eqn.params):
      yield from _eqns(inner)


def _around_kernels(jaxpr):
  """Kernels and all equations beside them, in order."""
  for eqn in jaxpr.eqns:
    inner = extend.jaxprs_in_params(eqn.params)
    if eqn.primitive.name == "pallas_call" or not inner:
      yield eqn
      continue
    for body in inner:
      yield from _around_kernels(body)


def _primitives(static, operands):
  """Names of what one forward kernel does."""
  jaxpr = jax.make_jaxpr(lambda x: triton.attend(static, x))(operands)
  (kernel,) = (
    eqn for eqn in _eqns(jaxpr.jaxpr) if eqn.primitive.name == "pallas_call"
  )
  return [eqn.primitive.name for eqn in _eqns(kernel.params["jaxpr"])]


def test_plain_kernel_holds_nothing_of_the_terms():
  names = _primitives(_static(), _operands())
  assert names.count("dot_general") == 2  # one loop over keys
  # The one comparison and its selections are for rows without keys.
  assert names.count("eq") == 1
  assert not {"lt", "ge", "abs", "tanh", "xor", "cond"} & set(names)


def test_hidden_keys_take_a_second_loop_with_masks():
  names = _primitives(_static(causal=True), _operands())
  assert names.count("dot_general") == 4
  names = _primitives(_static(window=(5, 5)), _operands())
  assert names.count("dot_general") == 2  # no block is seen whole


def test_shared_biases_keep_no_scores():
  dense = jnp.zeros((1, 2, 64, 64))
  operands = _operands(dense=dense, toeplitz=jnp.zeros((2, 127)))

  def loss(operands):
    return jnp.sum(triton.attend(_static(), operands))

  jaxpr = jax.make_jaxpr(jax.grad(loss))(operands)
  scores = 2 * 2 * 64 * 64
  equations = list(_around_kernels(jaxpr.jaxpr))
  outside = [eqn for eqn in equations if eqn.primitive.name != "pallas_call"]
  kernels = [eqn for eqn in equations if eqn.primitive.name == "pallas_call"]
  assert len(kernels) == 5  # forward, queries, keys, dense, distances
  for eqn in kernels[:3] + outside:
    for out in eqn.outvars:
      # Partial sums of few rows have splits in front of [1, heads, q, k].
      small = out.aval.size < scores or out.aval.shape[-4:] == dense.shape
      assert small or out.aval.ndim == 4 and out.aval.shape[-1] < 64, out.aval


@pytest.mark.slow
def test_tiles_do_not_change_the_result():
  rng = np.random.default_rng(1)
  segments = np.sort(rng.integers(0, 4, (2, 70)), axis=1)
  segments = jnp.asarray(segments, jnp.int32)
  operands = _operands(70, 70, query_segments=segments, key_segments=segments)
  launch = blocks_lib.Launch
  others = blocks_lib.Blocks(
    launch(16, 64), launch(128, 16), launch(16, 128), launch(16, 16)
  )

  def run(blocks):
    static = _static(causal=True, blocks=blocks)
    loss = lambda x: jnp.sum(jnp.sin(triton.attend(static, x)))
    return jax.jit(jax.value_and_grad(loss, allow_int=True))(operands)

  value, gradient = run(None)
  other, changed = run(others)
  np.testing.assert_allclose(other, value, rtol=1e-5)
  for name in ("query", "key", "value"):
    a, b = getattr(gradient, name), getattr(changed, name)
    np.testing.assert_allclose(b, a, rtol=1e-4, atol=2e-6, err_msg=name)


def test_float16():
  case = Case(queries=40, keys=40, bias=("dense_bh",), soft_cap=3.0)
  float16 = jnp.dtype("float16")
  found = attention_contract.errors(TestTriton().attend, case, float16)
  there = attention_contract.reference_errors(case, float16)
  bounds = {n: 2 * e + attention_contract.ROUNDING for n, e in there.items()}
  over = {n: (e, bounds[n]) for n, e in found.items() if not e <= bounds[n]}
  assert not over, f"errors and bounds: {over}"


def test_says_what_it_cannot_do():
  operands = _operands()
  with pytest.raises(NotImplementedError, match="GPU"):
    triton.attend(Static(), operands)
  x = operands.query
  with pytest.raises(NotImplementedError, match="gpu"):
    flash_attention(x, x, x, implementation="triton")
  mixed = dataclasses.replace(operands, value=x.astype(jnp.bfloat16))
  with pytest.raises(NotImplementedError, match="one dtype"):
    triton.attend(_static(), mixed)
  wide = jnp.zeros((1, 4, 1, 320))
  with pytest.raises(NotImplementedError, match="256"):
    triton.attend(_static(), Operands(wide, wide, wide))
  crowded = _operands(
    channels=160,
    slopes=jnp.ones((2,)),
    toeplitz=jnp.zeros((2, 127)),
    dense=jnp.zeros((1, 2, 64, 64)),
  )
  static = _static(soft_cap=3.0, dropout_rate=0.1)
  with pytest.raises(NotImplementedError, match="more than three other terms"):
    triton.attend(static, crowded)


def test_blocks_refuse_what_cannot_be_compiled():
  with pytest.raises(ValueError, match="powers of two"):
    blocks_lib.Launch(48, 64)
  good = blocks_lib.Launch(64, 32)
  with pytest.raises(ValueError, match="square"):
    blocks_lib.Blocks(good, good, good, good)


def test_tiles_fit_short_rows():
  given = dict(dtype=jnp.dtype("bfloat16"), terms=0, interpret=False)
  short = blocks_lib.default(head_dim=64, queries=1, keys=40, **given)
  assert (short.forward.block_q, short.forward.block_k) == (16, 64)
  long = blocks_lib.default(head_dim=64, queries=512, keys=512, **given)
  assert (long.forward.block_q, long.forward.block_k) == (128, 128)
