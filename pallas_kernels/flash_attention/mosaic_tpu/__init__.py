"""Attention in Pallas Mosaic TPU."""

import jax
import jax.numpy as jnp

from pallas_kernels import _platform
from pallas_kernels.flash_attention.differentiable import differentiable
from pallas_kernels.flash_attention.mosaic_tpu.backward import backward
from pallas_kernels.flash_attention.mosaic_tpu.forward import forward
from pallas_kernels.flash_attention.mosaic_tpu.tiles import Blocks as Blocks
from pallas_kernels.flash_attention.operands import Operands, Static

_DTYPES = (jnp.bfloat16, jnp.float32)
_NO_STRIDED_ROLL = ("TPU v2", "TPU v3", "TPU v4")

_differentiable = differentiable(forward, backward)


def attend(static: Static, operands: Operands) -> jax.Array:
  """Attention of `operands`, differentiable by all that is floating.

  Deterministic. Memory is linear in the length, but for a dense bias.

  Args:
    static: options; `blocks` is a `Blocks` or None, `interpret` runs on any
      device (a `pltpu.InterpretParams` simulates a TPU's memory too).
    operands: floating arrays are bfloat16 or float32; query, key and value
      are of one dtype.

  Returns:
    [batch, queries, heads, value_dim] in query's dtype.

  Raises:
    NotImplementedError: another dtype, not compiled for a TPU, scores by
      distance on a TPU before v5, or rows so long that a head's gradients do
      not fit fast memory.
  """
  _check_dtypes(operands)
  device = _platform.target(operands)
  if not static.interpret and device.platform != "tpu":
    raise NotImplementedError(
      f"mosaic_tpu attention runs on TPUs, not on {device}; "
      "'mosaic_tpu:interpret' runs anywhere, slowly"
    )
  if not static.interpret:
    _check_kind(operands, device.kind)
  return _differentiable(static, operands)


def _check_kind(operands: Operands, kind: str) -> None:
  for name in ("toeplitz", "c2p", "p2c"):
    if getattr(operands, name) is not None and kind in _NO_STRIDED_ROLL:
      raise NotImplementedError(
        f"mosaic_tpu attention cannot compute {name} on {kind}: it cannot "
        "roll each row of a tile by an amount of its own, as v5 and later do"
      )


def _check_dtypes(operands: Operands) -> None:
  own = {x.dtype for x in (operands.query, operands.key, operands.value)}
  if len(own) > 1:
    raise NotImplementedError(
      "mosaic_tpu attention needs query, key and value of one dtype, not "
      f"{', '.join(sorted(map(str, own)))}"
    )
  for array in jax.tree.leaves(operands):
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    if floating and array.dtype not in _DTYPES:
      raise NotImplementedError(
        "mosaic_tpu attention takes bfloat16 and float32, what a TPU's "
        f"matrix unit multiplies, not {array.dtype}"
      )
