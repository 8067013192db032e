"""Long filters drawn by a small sine network (Hyena, arXiv:2302.10866).

Poli et al., sec. 3.3 and appendix D.3: the filter's value at distance t is
exp(-t |decay_c|) times channel c of a network that reads features of t, the
time itself and complex exponentials. What is fixed here is so in the released
code: the decays, three sine layers with one trained frequency for each unit,
which all layers share, and features that are trained too, at a small rate.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.primitives import Initializer

_LAYERS = 2  # from units to units, after the first
_SMALLEST, _FAST, _SLOW = 1e-2, 0.3, 1.5


def features(length: int, count: int) -> np.ndarray:
  """[length, count] float64: time, then cosines and minus sines."""
  time = np.linspace(0.0, 1.0, length)[:, None]
  bands = (count - 1) // 2
  turns = np.linspace(1e-4, bands - 1, bands)[None]
  angles = turns * 2.0 * np.pi * np.arange(length)[:, None] / length
  return np.concatenate([time, np.cos(angles), -np.sin(angles)], axis=1)


def decays(width: int) -> np.ndarray:
  """[width] float64, not negative: exp(-t decay) over t in [0, 1]."""
  fall = -math.log(_SMALLEST)
  return np.linspace(fall / _SLOW, fall / _FAST, width)


class _Affine(nn.Module):
  """x [length, in] -> [length, out], in the dtype of x."""

  features: int
  axis: str | None
  use_bias: bool
  initializer: Initializer
  param_dtype: jnp.dtype

  @nn.compact
  def __call__(self, x):
    # Not 'kernel': too small to be split over devices.
    weight = self.param(
      "weight",
      primitives.partitioned(self.initializer.kernel(), (None, self.axis)),
      (x.shape[-1], self.features),
      self.param_dtype,
    )
    y = x @ weight.astype(x.dtype)
    if not self.use_bias:
      return y
    bias = self.param(
      "bias",
      primitives.partitioned(nn.initializers.zeros, (self.axis,)),
      (self.features,),
      self.param_dtype,
    )
    return y + bias.astype(x.dtype)[None]


class _Network(nn.Module):
  """Features of time [length, count] -> [length, width]."""

  width: int
  units: int
  initializer: Initializer
  param_dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, frequency):
    for i in range(_LAYERS + 1):
      x = self._affine(self.units, None, True, f"layer_{i}")(x)
      x = jnp.sin(frequency[None] * x)
    return self._affine(self.width, "embed", False, "output")(x)

  def _affine(self, features, axis, use_bias, name):
    return _Affine(
      features, axis, use_bias, self.initializer, self.param_dtype, name=name
    )


class LongFilter(nn.Module):
  """The filter and the skip of each of several convolutions.

  Attributes:
    width: channels of one convolution.
    max_length: of the grid of times that the filter is drawn on.
    taps: distances that a filter reaches over at most, a partial convolution
      (Fu et al., arXiv:2311.05908); all of `max_length` where 0.
    causal: filters look back only.
    convolutions: how many there are, drawn by one network.
    count: features of time, odd and at least 3.
    units: of a layer of the network.
    frequency: of the sines when training starts.
    dtype: of the result; float32 or wider.
  """

  width: int
  max_length: int
  taps: int = 0
  causal: bool = True
  convolutions: int = 1
  count: int = 33
  units: int = 64
  frequency: float = 14.0
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, length: int):
    """Filters for rows of a length.

    Args:
      length: of the rows; may be more than `max_length`, whose filter then
        slides over them.

    Returns:
      For each convolution its filter [taps, width], or [2 taps - 1, width]
      with distance 0 in the middle, and its skip [width].
    """
    self._check()
    taps = min(self.taps or self.max_length, length)
    total = self.width * self.convolutions
    places = self._param(
      "places",
      lambda *_: jnp.asarray(
        features(self.max_length, self.count), self.param_dtype
      ),
      ("length", None),
      (self.max_length, self.count),
    )[:taps]
    frequency = self._param(
      "frequency",
      nn.initializers.constant(self.frequency),
      (None,),
      (self.units,),
    )
    drawn = self._draw("back", total, places, frequency)
    if not self.causal:  # distances 1, 2, .. to what comes later
      ahead = self._draw("ahead", total, places, frequency)
      drawn = jnp.concatenate([ahead[: taps - 1][::-1], drawn])
    skip = self._param(
      "skip", nn.initializers.normal(1.0), ("embed",), (total,)
    )
    parts = self.convolutions  # of one channel lie side by side
    return [(drawn[:, i::parts], skip[i::parts]) for i in range(parts)]

  def _check(self):
    if self.count < 3 or self.count % 2 == 0:
      raise errors.UserError(
        f"filter_features is {self.count}; it is odd and at least 3: the time "
        "and pairs of cosine and sine."
      )
    if not 0 <= self.taps <= self.max_length:
      raise errors.UserError(
        f"taps is {self.taps}; it is at most max_length={self.max_length}, "
        "and 0 for all of it."
      )

  def _param(self, name, init, axes, shape):
    made = self.param(
      name, primitives.partitioned(init, axes), shape, self.param_dtype
    )
    return made.astype(jnp.promote_types(self.dtype, jnp.float32))

  def _draw(self, name, width, places, frequency):
    network = _Network(
      width, self.units, self.initializer, self.param_dtype, name=name
    )
    time = np.linspace(0.0, 1.0, self.max_length)[: len(places), None]
    fall = jnp.asarray(np.exp(-time * decays(width)[None]), places.dtype)
    return network(places, frequency) * fall
