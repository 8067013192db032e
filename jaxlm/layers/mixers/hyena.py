"""The Hyena operator: gates and long convolutions (arXiv:2302.10866)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.mixers import _implementations, _long_convolution, mixers
from jaxlm.layers.mixers._long_filter import LongFilter
from jaxlm.layers.primitives import Initializer
from pallas_kernels.fft_convolution import implementations


@mixers.register(
  "hyena", paper="arXiv:2302.10866", example={"width": 32, "max_length": 16}
)
class Hyena(nn.Module):
  """x [batch, length, width] -> [batch, length, width].

  x_0 .. x_(order - 1) and v are short convolutions of projections of x;
  v = filter_o conv (x_o v) + skip_o x_o v for o = order - 1 .. 1; the output
  is a projection of x_0 v. Grows with length as its FFTs do.

  Attributes:
    width: width of the model.
    max_length: of the grid that filters are drawn on; longer rows are read
      with filters of this length.
    order: gates; one less are the long convolutions.
    causal: filters look back only; else each has a half for either side.
    taps: distances that a filter reaches over at most; 0: max_length.
    frequencies: which frequencies of the filters count, see
      `_long_convolution.frequency_mask`; None for all. Not causal.
    filter_features: of time, that the filter's network reads; odd.
    filter_units: of a layer of that network.
    filter_frequency: of its sines when training starts.
    short_width: tokens of the short convolution.
    dropout: rate on what enters a long convolution.
    parity: do not hide padding, as the released code does not.
    implementation: what computes it, a name that
      `pallas_kernels.fft_convolution.implementations()` lists; None picks.
  """

  leaks: ClassVar[str] = _long_convolution.LEAKS
  # What comes later reaches outputs by the rounding of the transforms.
  rounds_ahead: ClassVar[float] = 1e-6
  score_share: ClassVar[float] = 0.0  # of FLOPs: FFTs cost 1% of a layer

  width: int
  max_length: int
  order: int = 2
  causal: bool = False
  taps: int = 0
  frequencies: Mapping[str, Any] | None = None
  filter_features: int = 33
  filter_units: int = 64
  filter_frequency: float = 14.0
  short_width: int = 3
  dropout: float = 0.0
  parity: bool = False
  implementation: str | None = None
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx):
    self._check()
    inner = primitives.dense_of(
      self,
      (self.order + 1) * self.width,
      ("embed", "mlp"),
      self.initializer.kernel(),
      "input",
    )(x)
    segments, start = ctx.segments, None
    if ctx.cache_length:
      inner, segments, start = self._cached(inner, ctx)
    inner = _long_convolution.short_convolution(
      self.short_width, self.dtype, self.param_dtype
    )(inner, None if self.parity else segments)
    y = self._convolved(inner, segments, ctx)
    if start is not None:
      y = jax.lax.dynamic_slice_in_dim(y, start, x.shape[1], axis=1)
    return primitives.dense_of(
      self, self.width, ("mlp", "embed"), self.initializer.output(), "output"
    )(y)

  def _check(self):
    _long_convolution.check_frequencies(self.frequencies, self.causal)
    _implementations.check(self.implementation, implementations(), "hyena")
    if self.order < 2:
      raise errors.UserError(
        f"hyena: order is {self.order}; it is at least 2, which has one long "
        "convolution."
      )

  def _convolved(self, inner, segments, ctx):
    """The recurrence over gates, [batch, length, width]."""
    *gates, v = jnp.split(inner, self.order + 1, axis=-1)
    length = inner.shape[1]
    filters = LongFilter(
      self.width,
      self.max_length,
      taps=self.taps,
      causal=self.causal,
      convolutions=self.order - 1,
      count=self.filter_features,
      units=self.filter_units,
      frequency=self.filter_frequency,
      initializer=self.initializer,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="filter",
    )(length)
    mask = _long_convolution.frequency_mask(
      self.frequencies, self.max_length, length
    )
    drop = primitives.Dropout(self.dropout)
    name = None if self.is_initializing() else self.implementation
    for (taps, skip), gate in zip(filters, gates[:0:-1], strict=True):
      gate = drop(gate, deterministic=not ctx.train)
      if not self.parity:
        gate = gate * (segments > 0)[..., None]
      with _implementations.mendable(name):
        v = _long_convolution.convolve(
          v,
          taps,
          skip,
          gate_in=gate,
          causal=self.causal,
          frequency_mask=mask,
          implementation=name,
        )
    return gates[0] * v

  def _cached(self, inner, ctx):
    """Projections of all tokens so far.

    A filter reaches back over all of them: each new token costs a convolution
    of the whole length that is kept.

    Returns:
      [batch, cache_length, features], segments [batch, cache_length], and the
      place of the first new token.
    """
    shape = (inner.shape[0], ctx.cache_length, inner.shape[2])
    kept = self.variable("cache", "inner", jnp.zeros, shape, inner.dtype)
    segments = self.variable(
      "cache", "segments", jnp.zeros, shape[:2], jnp.int32
    )
    filled = self.variable("cache", "filled", jnp.zeros, (), jnp.int32)
    start = filled.value
    if not self.is_initializing():
      insert = jax.lax.dynamic_update_slice_in_dim
      kept.value = insert(kept.value, inner, start, 1)
      segments.value = insert(segments.value, ctx.segments, start, 1)
      filled.value = start + inner.shape[1]
    return kept.value, segments.value, start
