"""Attention in Pallas Triton: everything of `operands`, on NVIDIA GPUs."""

import jax
import jax.numpy as jnp

from pallas_kernels import _platform
from pallas_kernels.flash_attention.differentiable import differentiable
from pallas_kernels.flash_attention.operands import Operands, Static
from pallas_kernels.flash_attention.triton import sinks
from pallas_kernels.flash_attention.triton.backward import backward
from pallas_kernels.flash_attention.triton.blocks import Blocks as Blocks
from pallas_kernels.flash_attention.triton.blocks import Launch as Launch
from pallas_kernels.flash_attention.triton.forward import forward
from pallas_kernels.flash_attention.triton.problem import count_terms

_DTYPES = ("bfloat16", "float16", "float32")
_differentiable = differentiable(forward, backward)


def attend(static: Static, operands: Operands) -> jax.Array:
  """Attention of `operands`, differentiable by all that is floating.

  Deterministic. Memory is linear in the length, but for the gradients of
  disentangled tables (c2p, p2c) and of a dense bias of every row and head.

  Args:
    static: options; `blocks` is a `Blocks` or None, `interpret` runs on any
      device.
    operands: query, key and value of one dtype: bfloat16, float16 or float32.

  Returns:
    [batch, queries, heads, value_dim] in query's dtype.

  Raises:
    NotImplementedError: another dtype, more than 256 channels, a shared dense
      bias beside more than three terms with more than 128, or not compiled for
      a GPU.
  """
  dtypes = {operands.query.dtype, operands.key.dtype, operands.value.dtype}
  if len(dtypes) > 1 or jnp.dtype(operands.query.dtype).name not in _DTYPES:
    raise NotImplementedError(
      "triton attention needs query, key and value of one dtype of "
      f"{', '.join(_DTYPES)}, not {', '.join(sorted(map(str, dtypes)))}"
    )
  widest = max(operands.query.shape[-1], operands.value.shape[-1])
  if widest > 256:
    raise NotImplementedError(
      f"triton attention has tiles for up to 256 channels, not {widest}"
    )
  if widest > 128 and _crowds_dense(static, operands):
    raise NotImplementedError(
      f"triton attention of {widest} channels has no registers left for the "
      "gradient of a dense bias that rows or heads share, beside more than "
      "three other terms"
    )
  device = _platform.target(operands)
  if not static.interpret and device.platform != "gpu":
    raise NotImplementedError(
      f"triton attention runs on GPUs, not on {device}; 'triton:interpret' "
      "runs anywhere, slowly"
    )
  return _differentiable(static, operands)


def _crowds_dense(static, operands):
  """Whether the gradient of a shared dense bias would spill registers."""
  if operands.dense is None or not sinks.is_shared(operands):
    return False
  return count_terms(static, operands) > 4
