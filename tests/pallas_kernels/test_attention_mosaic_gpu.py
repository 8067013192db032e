"""Attention in Pallas Mosaic GPU, interpreted, against the float64 oracle.

The interpreter starts a thread for each warpgroup of each program and compiles
what it runs: cases are few, and have few programs.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.flash_attention import api, mosaic_gpu, operands
from pallas_kernels.flash_attention.mosaic_gpu.blocks import Blocks, default
from tests.pallas_kernels import attention_contract as contract

_CASE = functools.partial(
  contract.Case, batch=1, heads=1, key_heads=1, head_dim=64, value_dim=64
)
# More blocks than stages, in each of the walks.
_SMALL = Blocks(forward_k=64, dq_k=64, dkv_q=64, stages=2)

FAST = {
  "plain, several blocks of odd size": (
    _CASE(queries=100, keys=200),
    "float16",
  ),
}
SLOW = {
  "packed, causal, window, alibi, shared heads, NaN": (
    _CASE(
      queries=150,
      keys=150,
      heads=2,
      value_dim=128,
      segments="packed",
      causal=True,
      window=(60, 0),
      bias=("alibi",),
      nan=True,
    ),
    "bfloat16",
  ),
  "plain, 128 channels, default tiles": (
    _CASE(queries=256, keys=256, head_dim=128, value_dim=128),
    "bfloat16",
  ),
  "window, more keys": (
    _CASE(queries=130, keys=260, window=(40, 10), query_offset=100, heads=2),
    "bfloat16",
  ),
  "rows of padding, ids in no order": (
    _CASE(queries=140, keys=140, segments="empty", batch=2, nan=True),
    "float16",
  ),
  "mixed ids, alibi": (
    _CASE(segments="mixed", bias=("alibi",), nan=True, heads=2, key_heads=2),
    "bfloat16",
  ),
  "causal, long": (_CASE(queries=400, keys=400, causal=True), "bfloat16"),
  "blind queries": (
    _CASE(queries=90, keys=70, causal=True, query_offset=-30),
    "float16",
  ),
}


def _check(case, dtype, blocks):
  attend = functools.partial(
    mosaic_gpu.attention, interpret=True, blocks=blocks
  )
  found = contract.errors(attend, case, jnp.dtype(dtype))
  there = contract.reference_errors(case, jnp.dtype(dtype))
  bounds = {n: 2 * e + contract.ROUNDING for n, e in there.items()}
  over = {n: (e, bounds[n]) for n, e in found.items() if not e <= bounds[n]}
  assert not over, f"errors and bounds: {over}"


@pytest.mark.parametrize("name", FAST)
def test_output_and_gradients(name):
  case, dtype = FAST[name]
  _check(case, dtype, _SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_more_outputs_and_gradients(name):
  case, dtype = SLOW[name]
  _check(case, dtype, None if "default" in name else _SMALL)


_REFUSED = {
  "float32": (dict(dtype="float32"), "one dtype"),
  "channels": (dict(head_dim=32), "64 or 128 channels"),
  "dropout": (dict(dropout=0.1), "dropout"),
  "cap": (dict(soft_cap=2.0), "soft_cap"),
  "buckets": (dict(bias=("buckets",)), "bias by distance"),
  "dense": (dict(bias=("dense_1h",)), "dense bias"),
  "tables": (dict(bias=("p2c",)), "disentangled"),
  "scale": (dict(scaled=-1.0), "scale over 0"),
  "alibi": (dict(bias=("alibi",), head_dim=128), "ALiBi's gradient at 128"),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_refuses_with_the_reason(name):
  options, reason = _REFUSED[name]
  dtype = options.pop("dtype", "bfloat16")
  attend = functools.partial(mosaic_gpu.attention, interpret=True)
  with pytest.raises(NotImplementedError, match=reason):
    contract.run(attend, _CASE(**options), jnp.dtype(dtype))


def test_runs_on_hopper_alone():
  x = jax.ShapeDtypeStruct((1, 64, 1, 64), jnp.bfloat16)
  attend = functools.partial(mosaic_gpu.attend, operands.Static())
  with pytest.raises(NotImplementedError, match="Hopper GPUs, not for cpu"):
    jax.eval_shape(lambda x: attend(operands.Operands(x, x, x)), x)


def test_is_an_implementation_of_the_op():
  assert "mosaic_gpu" in api.implementations()
  x = jnp.zeros((1, 64, 1, 32), jnp.bfloat16)
  with pytest.raises(NotImplementedError, match="64 or 128 channels"):
    api.flash_attention(x, x, x, implementation="mosaic_gpu:interpret")


def test_tiles_are_checked():
  for wrong in (dict(forward_k=96), dict(dq_k=32), dict(stages=1)):
    with pytest.raises(ValueError, match="multiples of 64|two stages"):
      Blocks(**wrong)
  assert dataclasses.replace(Blocks(), stages=3).stages == 3


def test_default_tiles_fit_into_shared_memory():
  for dim, slopes in ((64, False), (64, True), (128, False), (128, True)):
    blocks = default(dim, dim, slopes)
    steps = max(blocks.forward_k, blocks.dq_k, blocks.dkv_q)
    # Queries, outputs; keys and values of all stages; vectors.
    matrices = 2 * 128 + 2 * blocks.stages * steps
    size = 2 * dim * matrices + 4 * 4 * blocks.stages * steps
    assert size < np.int64(227 * 1024)
