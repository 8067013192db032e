"""Attention in Pallas Mosaic TPU."""

import dataclasses

import jax.numpy as jnp

from pallas_kernels.flash_attention import operands as operands_lib
from pallas_kernels.flash_attention.differentiable import differentiable
from pallas_kernels.flash_attention.mosaic_tpu.backward import backward
from pallas_kernels.flash_attention.mosaic_tpu.forward import forward
from pallas_kernels.flash_attention.mosaic_tpu.tiles import Blocks as Blocks

_DTYPES = (jnp.bfloat16, jnp.float32)

# (Static, Operands) -> out, with gradients of every floating operand.
compute = differentiable(forward, backward)


def attend(static: operands_lib.Static, operands: operands_lib.Operands):
  """`compute`, or the reason why not.

  Raises:
    NotImplementedError: what the TPU kernels cannot do.
  """
  for array in (operands.query, operands.key, operands.value):
    if array.dtype not in _DTYPES:
      raise NotImplementedError(
        f"attention 'mosaic_tpu' computes in bfloat16 or float32, the types "
        f"of a TPU's matrix unit, not in {array.dtype}"
      )
  return compute(static, operands)


def attention(
  query,
  key,
  value,
  *,
  bias,
  query_segments,
  key_segments,
  query_offset,
  causal,
  window,
  scale,
  soft_cap,
  dropout_rate,
  dropout_key,
  with_probabilities=False,
  interpret=False,
  blocks: Blocks | None = None,
):
  """See `api.flash_attention`; arguments are the same, all given.

  Args:
    interpret: True to run on any device in Pallas' interpreter, or
      `pltpu.InterpretParams` to simulate a TPU's memory too.
    blocks: tile sizes; a table's where None.

  Raises:
    NotImplementedError: what the TPU kernels cannot do.
  """
  if with_probabilities:
    raise NotImplementedError(
      "attention 'mosaic_tpu' never holds the probabilities"
    )
  static, operands = operands_lib.lower(
    query,
    key,
    value,
    bias=bias,
    query_segments=query_segments,
    key_segments=key_segments,
    query_offset=query_offset,
    causal=causal,
    window=window,
    scale=scale,
    soft_cap=soft_cap,
    dropout_rate=dropout_rate,
    dropout_key=dropout_key,
  )
  static = dataclasses.replace(static, interpret=interpret, blocks=blocks)
  return attend(static, operands)
