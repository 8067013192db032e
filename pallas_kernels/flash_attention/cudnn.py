"""NVIDIA's cuDNN, by way of jax, for the plain cases that it gets right.

Everything else is refused, as far as jax would compute something else without
a word: it ignores packed documents, rounds biases to 16 bits, gives gradients
of some of them only, draws other bits for dropout, and has masks of its own
where queries and keys are not the same tokens.
"""

import jax
import jax.numpy as jnp

from pallas_kernels import _platform


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
):
  """See `api.flash_attention`; arguments are the same, all given.

  Raises:
    NotImplementedError: what cuDNN does not compute as `reference` does; not
      compiled for a GPU; no cuDNN there.
  """
  del key_segments, dropout_key
  reason = _refusal(
    query,
    key,
    value,
    bias=bias,
    segments=query_segments,
    query_offset=query_offset,
    causal=causal,
    window=window,
    soft_cap=soft_cap,
    dropout_rate=dropout_rate,
    with_probabilities=with_probabilities,
  )
  if reason is not None:
    raise NotImplementedError(f"cudnn attention {reason}")
  try:
    return jax.nn.dot_product_attention(
      query,
      key,
      value,
      scale=float(scale),
      # A window of nothing to the right is causal; jax needs to be told.
      is_causal=causal or window is not None,
      local_window_size=None if window is None else (int(window[0]), 0),
      implementation="cudnn",
    )
  except RuntimeError as error:  # jax: "cuDNN is not detected."
    raise NotImplementedError(f"cudnn attention needs cuDNN: {error}") from None


def _refusal(
  query,
  key,
  value,
  *,
  bias,
  segments,
  query_offset,
  causal,
  window,
  soft_cap,
  dropout_rate,
  with_probabilities,
) -> str | None:
  """Why a call cannot be passed on, or None."""
  device = _platform.target((query, key, value))
  names = sorted({jnp.dtype(x.dtype).name for x in (query, key, value)})
  ruled = causal or window is not None
  offset = not isinstance(query_offset, int) or query_offset != 0
  reasons = {
    "keeps no probabilities": with_probabilities,
    "ignores segments": segments is not None,
    "rounds a bias to 16 bits, and not all have a gradient": bias is not None,
    "has no soft cap": soft_cap is not None,
    "draws dropout from bits of its own": dropout_rate > 0.0,
    f"takes bfloat16 or float16, not {', '.join(names)}": names
    not in (["bfloat16"], ["float16"]),
    "takes values of the width of keys alone": value.shape != key.shape,
    "takes a multiple of 8 channels": query.shape[-1] % 8 != 0,
    "places masks otherwise where queries and keys differ": ruled
    and (offset or query.shape[1] != key.shape[1]),
    "has windows to the left alone": window is not None
    and not (window[0] >= 0 and (window[1] == 0 or causal and window[1] > 0)),
    f"runs on GPUs, not on {device}": device.platform != "gpu",
  }
  return next((reason for reason, holds in reasons.items() if holds), None)
