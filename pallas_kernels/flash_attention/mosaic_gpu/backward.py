"""Backward pass: a kernel over queries and one over keys.

Each recomputes the probabilities from the log-sum-exp (FlashAttention-2,
T. Dao 2023, arXiv:2307.08691). No atomics: the result is deterministic.
"""

import jax
import jax.numpy as jnp

from pallas_kernels.flash_attention.mosaic_gpu import over_keys, over_queries
from pallas_kernels.flash_attention.mosaic_gpu.blocks import BLOCK
from pallas_kernels.flash_attention.mosaic_gpu.machine import LOG2E
from pallas_kernels.flash_attention.mosaic_gpu.problem import (
  describe,
  pad,
  whole,
)

# Of queries that are there to fill a block: their probabilities are 0.
_NO_MASS = 1e30


def backward(static, operands, out, lse, grad_out):
  """See `differentiable.differentiable`."""
  problem = describe(static, operands)
  delta = jnp.einsum(
    "bqhd,bqhd->bhq",
    out.astype(jnp.float32),
    grad_out.astype(jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )
  grad = grad_out.astype(problem.dtype)

  def inputs(q_block, k_block):
    q_segments, k_segments = operands.query_segments, operands.key_segments
    found = {
      "query": whole(operands.query, q_segments, q_block),
      "grad": pad(grad, q_block),
      "key": whole(operands.key, k_segments, k_block),
      "value": whole(operands.value, k_segments, k_block),
      "lse": pad(lse * LOG2E, q_block, _NO_MASS, axis=2),
      "minus_delta": pad(-delta, q_block, axis=2),
      **problem.id_inputs(operands, q_block, k_block),
    }
    if problem.slopes:
      found["slopes"] = operands.slopes
    return found

  blocks = problem.blocks
  return {
    **over_queries.gradients(problem, operands, inputs(BLOCK, blocks.dq_k)),
    **over_keys.gradients(problem, operands, inputs(blocks.dkv_q, BLOCK)),
  }
