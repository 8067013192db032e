"""Short convolutions over the length, each feature by itself."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives


def depthwise(x, taps, segments=None, *, causal=False):
  """y[b, t, c] = sum_k taps[k, c] * x[b, t + k - before, c].

  `before` is (width - 1) / 2, or width - 1 where causal. What lies outside of
  the row counts as 0; with segments, so does what lies in another document or
  in padding. Sums run in float32 or wider.

  Args:
    x: [batch, length, features].
    taps: [width, features].
    segments: [batch, length], 0 padding; None: rows hold one document each.
    causal: look back only.

  Returns:
    [batch, length, features] in the dtype of x. Padding gets 0 from real
    tokens and gives them 0.

  Raises:
    UserError: an even width that is not causal.
  """
  width, length = taps.shape[0], x.shape[1]
  if width % 2 == 0 and not causal:
    raise errors.UserError(
      f"kernel_size={width} is even, so the taps have no centre; take "
      f"{width - 1} or {width + 1}."
    )
  before = width - 1 if causal else width // 2
  wide = jnp.promote_types(x.dtype, jnp.float32)
  padded = _padded(x, before, width - 1 - before)
  documents = segments
  if segments is not None:
    documents = _padded(segments, before, width - 1 - before)
  out = 0.0
  for k in range(width):
    seen = padded[:, k : k + length]
    if segments is not None:
      same = documents[:, k : k + length] == segments
      seen = jnp.where(same[..., None], seen, 0)
    out = out + seen.astype(wide) * taps[k].astype(wide).reshape(1, 1, -1)
  return out.astype(x.dtype)


def _padded(x, before, after):
  """x [batch, length, ...] with zeros at both ends."""
  return jnp.pad(x, [(0, 0), (before, after)] + [(0, 0)] * (x.ndim - 2))


class DepthwiseConvolution(nn.Module):
  """x [batch, length, features] -> the same, by `depthwise`.

  Attributes:
    width: taps.
    kernel_init: of the filter [width, features].
    causal: look back only.
    use_bias: add a bias [features].
  """

  width: int
  kernel_init: Callable
  causal: bool = False
  use_bias: bool = False
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, segments=None):
    features = x.shape[-1]
    taps = self.param(
      "filter",
      primitives.partitioned(self.kernel_init, (None, "embed")),
      (self.width, features),
      self.param_dtype,
    )
    x = x.astype(self.dtype)
    y = depthwise(x, taps, segments, causal=self.causal)
    if not self.use_bias:
      return y
    bias = self.param(
      "bias",
      primitives.partitioned(nn.initializers.zeros, ("embed",)),
      (features,),
      self.param_dtype,
    )
    return y + bias.astype(self.dtype).reshape(1, 1, -1)
