"""Attention in Pallas Mosaic GPU: the hot path on NVIDIA's Hopper.

Plain products, causality, windows, segments and ALiBi, in bfloat16 and
float16 with 64 or 128 channels (ALiBi: 64); whatever else is asked is refused.
"""

import dataclasses

import jax
import jax.numpy as jnp

from pallas_kernels import _platform
from pallas_kernels.flash_attention import operands as operands_lib
from pallas_kernels.flash_attention.differentiable import differentiable
from pallas_kernels.flash_attention.mosaic_gpu.backward import backward
from pallas_kernels.flash_attention.mosaic_gpu.blocks import Blocks as Blocks
from pallas_kernels.flash_attention.mosaic_gpu.forward import forward
from pallas_kernels.flash_attention.operands import Operands, Static

_DTYPES = ("bfloat16", "float16")
_CHANNELS = (64, 128)
_REFUSED = {
  "toeplitz": "bias by distance other than ALiBi",
  "theta": "Reset",
  "dense": "dense bias",
  "c2p": "disentangled scores",
  "p2c": "disentangled scores",
}
_KINDS = ("H100", "H200", "GH200", "H800", "H20")
_differentiable = differentiable(forward, backward)


def attention(
  query, key, value, *, interpret=False, blocks: Blocks | None = None, **given
) -> jax.Array:
  """`reference.attention` by this package's kernels.

  Args:
    query: [batch, queries, heads, head_dim].
    key: [batch, keys, key_heads, head_dim].
    value: [batch, keys, key_heads, value_dim].
    interpret: run in Pallas' interpreter, on any device.
    blocks: tile sizes, or None for the defaults.
    **given: all other arguments of `operands.lower`.

  Returns:
    [batch, queries, heads, value_dim] in query's dtype.

  Raises:
    NotImplementedError: see `attend`.
  """
  static, operands = operands_lib.lower(query, key, value, **given)
  static = dataclasses.replace(static, interpret=interpret, blocks=blocks)
  return attend(static, operands)


def attend(static: Static, operands: Operands) -> jax.Array:
  """Attention of `operands`, differentiable by all that is floating.

  Deterministic.

  Args:
    static: options; `blocks` is a `Blocks` or None, `interpret` runs on any
      device.
    operands: query, key and value of one dtype, bfloat16 or float16, with 64
      or 128 channels; of the biases only `slopes`.

  Returns:
    [batch, queries, heads, value_dim] in query's dtype.

  Raises:
    NotImplementedError: something else, or not compiled for a Hopper GPU; the
      message says why.
  """
  reason = _why_not(static, operands)
  if reason:
    raise NotImplementedError(f"mosaic_gpu attention {reason}")
  return _differentiable(static, operands)


def _why_not(static: Static, operands: Operands) -> str | None:
  arrays = (operands.query, operands.key, operands.value)
  dtypes = sorted({jnp.dtype(x.dtype).name for x in arrays})
  if len(dtypes) > 1 or dtypes[0] not in _DTYPES:
    return (
      "needs query, key and value of one dtype of "
      f"{', '.join(_DTYPES)}, not {', '.join(dtypes)}"
    )
  channels = [x.shape[-1] for x in arrays]
  if not set(channels) <= set(_CHANNELS):
    return f"has tiles for 64 or 128 channels, not {sorted(set(channels))}"
  for name, what in _REFUSED.items():
    if getattr(operands, name) is not None:
      return f"has no {what}; triton has"
  if operands.slopes is not None and channels[0] > 64:
    return "has no registers for ALiBi's gradient at 128 channels; triton has"
  if static.soft_cap is not None or static.dropout_rate > 0.0:
    return "has neither soft_cap nor dropout; triton has"
  if not static.scale > 0.0:
    return f"needs a scale over 0, not {static.scale}"
  if 0 in operands.query.shape or 0 in operands.key.shape:
    return "needs at least one row, query and key"
  return None if static.interpret else _not_hopper(operands)


def _not_hopper(operands) -> str | None:
  device = _platform.target(operands)
  # A GPU whose kind is not known is taken for one that fits: the compiler
  # says so if it is not.
  known = device.kind not in ("", device.platform)
  fits = any(kind in device.kind for kind in _KINDS)
  if device.platform == "gpu" and (fits or not known):
    return None
  return (
    f"is written for NVIDIA's Hopper GPUs, not for {device}; "
    "'mosaic_gpu:interpret' runs anywhere, slowly"
  )
