"""What mixers by long convolution share."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import errors
from jaxlm.layers.convolutions import DepthwiseConvolution
from pallas_kernels.fft_convolution import fft_convolution, frequencies

LEAKS = "its convolution is as long as the row and crosses documents."

_MASKS = {"low_pass": ("kept",), "monarch": ("factors", "kept")}


def frequency_mask(
  spec: Mapping[str, Any] | None, max_length: int, length: int
) -> np.ndarray | None:
  """Which frequencies of a filter count (Fu et al., arXiv:2311.05908, 3.3).

  Args:
    spec: None for all; dict(kind="low_pass", kept=n) for the n lowest;
      dict(kind="monarch", factors=.., kept=..) for a block of the frequencies
      in the order of a Monarch transform.
    max_length: half the points of the circle, where rows are not longer.
    length: of the rows.

  Returns:
    bool [points / 2 + 1], or None.

  Raises:
    UserError: an unknown kind or field, or numbers that do not fit.
  """
  if spec is None:
    return None
  kind = spec.get("kind")
  if kind not in _MASKS:
    raise errors.unknown("mixer.frequencies has no kind", kind, _MASKS)
  if set(spec) != {"kind", *_MASKS[kind]}:
    raise errors.UserError(
      f"mixer.frequencies of kind '{kind}' takes {', '.join(_MASKS[kind])}; "
      f"found {', '.join(sorted(set(spec) - {'kind'})) or 'nothing'}."
    )
  if kind == "low_pass":
    return frequencies.low_pass(2 * max(max_length, length), spec["kept"])
  points = int(np.prod(spec["factors"]))
  try:
    return frequencies.monarch(points, spec["factors"], spec["kept"])
  except ValueError as error:
    raise errors.UserError(f"mixer.frequencies: {error}.") from error


def check_frequencies(spec, causal: bool) -> None:
  """Raises UserError where a causal filter would look ahead."""
  if spec is not None and causal:
    raise errors.UserError(
      "mixer.frequencies with causal=True: a filter without some of its "
      "frequencies rings over the whole row and looks ahead. Leave one out."
    )


def convolve(x, filter, skip, **options):
  """`fft_convolution` of x [batch, length, channels].

  Raises:
    UserError: a frequency mask of too few points for the row.
  """
  try:
    return fft_convolution(x, filter, skip=skip, **options)
  except ValueError as error:
    if options.get("frequency_mask") is None:
      raise
    raise errors.UserError(f"mixer.frequencies: {error}.") from error


def short_convolution(width: int, dtype, param_dtype) -> DepthwiseConvolution:
  """Of the projections: looks back over `width` tokens, its own included."""
  bound = width**-0.5

  def uniform(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return DepthwiseConvolution(
    width=width,
    kernel_init=uniform,
    causal=True,
    use_bias=True,
    dtype=dtype,
    param_dtype=param_dtype,
    name="short",
  )
