"""The one dynamic convolution, and the choice of what computes it."""

import jax
import jax.numpy as jnp

from pallas_kernels.dynamic_convolution import (
  mosaic_tpu,
  reference,
  triton,
)

_IMPLEMENTATIONS = {
  "reference": reference.dynamic_convolution,
  "triton": triton.dynamic_convolution,
  "mosaic_tpu": mosaic_tpu.dynamic_convolution,
}


def implementations() -> tuple[str, ...]:
  """Names that `implementation` may take."""
  return tuple(_IMPLEMENTATIONS)


def choose(platform: str | None = None) -> tuple[str, str]:
  """The implementation that runs where none is named, and why.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'; the default backend's where None.
  """
  platform = platform or jax.default_backend()
  return "reference", f"no kernel was measured on {platform} so far"


def dynamic_convolution(
  values,
  logits,
  *,
  segments=None,
  implementation=None,
  blocks=None,
  interpret=False,
):
  """Convolution over the length with softmaxed taps of each position's own.

    out[b, t, h] = sum_k softmax(logits[b, t, h])[k]
                         * values[b, t + k - (width - 1) / 2, h]

  The dynamic convolution of ConvBERT (Jiang et al., arXiv:2008.02496; logits
  are its span-based kernels before their softmax, a head's taps adjacent).
  Values outside of the row, or of another segment, count as 0; the softmax
  runs over all taps nevertheless, as in ConvBERT at the ends of a row: a
  document in a packed row gets what it would get alone. Positions of segment
  0 (padding) give 0 and zero gradients, whatever they hold. Softmax and sums
  run in float32 (or wider).

  Args:
    values: [batch, length, heads, head_dim] floating.
    logits: [batch, length, heads, width] floating, width odd.
    segments: [batch, length] integer, 0 is padding; None: one document a row.
    implementation: a name of `implementations()`; None picks by `choose`.
    blocks: the implementation's own tile sizes; None for its defaults.
    interpret: run a kernel in Pallas' interpreter, on any device.

  Returns:
    [batch, length, heads, head_dim] in the dtype of values.

  Raises:
    ValueError: shapes that do not fit, or an even width.
    NotImplementedError: the named implementation cannot do this.
  """
  if values.ndim != 4 or logits.shape[:-1] != values.shape[:-1]:
    raise ValueError(
      f"values {values.shape} and logits {logits.shape} must both be [batch, "
      "length, heads, ...], alike but for their last axis"
    )
  if logits.shape[-1] % 2 == 0:
    raise ValueError(f"width {logits.shape[-1]} is even: taps have no centre")
  if segments is not None and segments.shape != values.shape[:2]:
    raise ValueError(
      f"segments {segments.shape} must be [batch, length] of values "
      f"{values.shape}"
    )
  implementation = implementation or choose()[0]
  if implementation not in _IMPLEMENTATIONS:
    raise NotImplementedError(
      f"dynamic convolution '{implementation}' is not one of "
      f"{', '.join(_IMPLEMENTATIONS)}"
    )
  if 0 in values.shape:
    return jnp.zeros_like(values)
  return _IMPLEMENTATIONS[implementation](
    values, logits, segments=segments, blocks=blocks, interpret=interpret
  )
