"""NVIDIA's own attention, as jax ships it: the plain path in 16 bits.

What it is refused, it does not compute, or not rightly: through jax it drops
packing (segments), and gives a wrong or no gradient for most biases.
"""

import jax
import jax.numpy as jnp

from pallas_kernels.flash_attention.operands import Operands, Static

_DTYPES = ("bfloat16", "float16")
_WIDEST = 128
_TERMS = (
  "query_segments",
  "slopes",
  "toeplitz",
  "theta",
  "dense",
  "c2p",
  "p2c",
  "row_hash",
)


def attend(static: Static, operands: Operands) -> jax.Array:
  """Attention of `operands` without any term but the dot product.

  Args:
    static: options: causal, and a window where it is causal.
    operands: query, key and value of bfloat16 or float16.

  Returns:
    [batch, queries, heads, head_dim] in query's dtype.

  Raises:
    NotImplementedError: anything else is asked for, or there is no cuDNN.
  """
  reason = refusal(static, operands)
  if reason:
    raise NotImplementedError(f"cudnn attention {reason}")
  window = None if static.window is None else (static.window[0], 0)
  try:
    return jax.nn.dot_product_attention(
      operands.query,
      operands.key,
      operands.value,
      scale=static.scale,
      is_causal=static.causal,
      local_window_size=window,
      implementation="cudnn",
    )
  except RuntimeError as error:  # "cuDNN is not detected"
    raise NotImplementedError(f"cudnn attention: {error}") from error


def refusal(static: Static, operands: Operands) -> str | None:
  """Why not, as the rest of a sentence; None where it is computed."""
  found = [name for name in _TERMS if getattr(operands, name) is not None]
  if found:
    return f"has no {', '.join(found)} that is right, forward and backward"
  query, key, value = operands.query, operands.key, operands.value
  dtypes = {jnp.dtype(x.dtype).name for x in (query, key, value)}
  if len(dtypes) > 1 or not dtypes <= set(_DTYPES):
    return f"takes bfloat16 or float16, not {', '.join(sorted(dtypes))}"
  width = query.shape[-1]
  if width != value.shape[-1] or width > _WIDEST or width % 8:
    return (
      f"takes one head_dim of up to {_WIDEST} that 8 divides, not {width} "
      f"with {value.shape[-1]} of value"
    )
  if static.soft_cap is not None:
    return "has no soft cap"
  if static.window is not None and not static.causal:
    return "has windows that look back only"
  if static.causal and query.shape[1] != key.shape[1]:
    return "is causal for as many keys as queries only"
  if static.causal and static.query_offset:
    return "has no query_offset"
  return None
