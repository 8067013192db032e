"""M2-BERT's sequence mixer (Fu et al., Monarch Mixer, arXiv:2310.12109)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.mixers import _implementations, _long_convolution, mixers
from jaxlm.layers.mixers._long_filter import LongFilter
from jaxlm.layers.primitives import Initializer
from pallas_kernels.fft_convolution import implementations


@mixers.register(
  "monarch", paper="arXiv:2310.12109", example={"width": 32, "max_length": 16}
)
class Monarch(nn.Module):
  """x [batch, length, width] -> [batch, length, width], in both directions.

  x_1, x_2 and v are short convolutions of projections of x; the output is a
  projection of x_2 (filter conv (x_1 v) + skip x_1 v) plus a second long
  convolution, of x itself, the only way around the projections: M2-BERT's
  block has no residual here ('feedforward_residual').

  Attributes:
    width: width of the model.
    max_length: of the grid that filters are drawn on; longer rows are read
      with filters of this length.
    residual: the second long convolution.
    taps: distances that a filter reaches over at most; 0: max_length.
    frequencies: which frequencies of the filters count, see
      `_long_convolution.frequency_mask`; None for all.
    filter_features: of time, that the filter's network reads; odd.
    filter_units: of a layer of that network.
    filter_frequency: of its sines when training starts.
    parity: do not hide padding, as the released code does not.
    implementation: what computes it, a name that
      `pallas_kernels.fft_convolution.implementations()` lists; None picks.
  """

  leaks: ClassVar[str] = _long_convolution.LEAKS
  score_share: ClassVar[float] = 0.0  # of FLOPs: FFTs cost 2% of a layer

  width: int
  max_length: int
  residual: bool = True
  taps: int = 0
  frequencies: Mapping[str, Any] | None = None
  filter_features: int = 5
  filter_units: int = 128
  filter_frequency: float = 10.0
  parity: bool = False
  implementation: str | None = None
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx):
    _implementations.check(self.implementation, implementations(), "monarch")
    inner = primitives.dense_of(
      self, 3 * self.width, ("embed", "mlp"), self.initializer.kernel(), "input"
    )(x)
    inner = _long_convolution.short_convolution(
      3, self.dtype, self.param_dtype
    )(inner, None if self.parity else ctx.segments)
    gate_in, gate_out, v = jnp.split(inner, 3, axis=-1)
    if not self.parity:
      real = ctx.mask[..., None]
      gate_in, x = gate_in * real, x * real
    y = self._convolved(v, "filter", gate_in=gate_in, gate_out=gate_out)
    if self.residual:
      y = y + self._convolved(x, "residual_filter")
    return primitives.dense_of(
      self, self.width, ("mlp", "embed"), self.initializer.output(), "output"
    )(y)

  def _convolved(self, x, name, **gates):
    length = x.shape[1]
    ((taps, skip),) = LongFilter(
      self.width,
      self.max_length,
      taps=self.taps,
      causal=False,
      count=self.filter_features,
      units=self.filter_units,
      frequency=self.filter_frequency,
      initializer=self.initializer,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name=name,
    )(length)
    mask = _long_convolution.frequency_mask(
      self.frequencies, self.max_length, length
    )
    chosen = None if self.is_initializing() else self.implementation
    with _implementations.mendable(chosen):
      return _long_convolution.convolve(
        x,
        taps,
        skip,
        causal=False,
        frequency_mask=mask,
        implementation=chosen,
        **gates,
      )
