"""Long convolution by the fast Fourier transform: the specification."""

import jax.numpy as jnp


def fft_convolution(x, filter, *, gate_in, causal, frequency_mask):
  """[batch, length, channels], float32 or wider: filter conv (gate_in * x).

  See `api.fft_convolution`, which applies the skip and the gate of the output.
  """
  wide = jnp.promote_types(jnp.result_type(x, filter), jnp.float32)
  length = x.shape[1]
  taps = filter.shape[0] if causal else (filter.shape[0] + 1) // 2
  points = _smooth(length + taps - 1)
  if frequency_mask is not None:
    points = 2 * (len(frequency_mask) - 1)
  placed = place(filter.astype(wide), points, causal=causal, sign=1)
  spectrum = jnp.fft.rfft(placed, axis=0)
  if frequency_mask is not None:
    spectrum = spectrum * jnp.asarray(frequency_mask, wide)[:, None]
  signal = jnp.fft.rfft(gated(x, gate_in, wide), points, axis=1)
  out = jnp.fft.irfft(signal * spectrum[None], points, axis=1)
  return out[:, :length].astype(wide)


def _smooth(least):
  """The next product of 2, 3 and 5: others take longer to transform."""
  while True:
    rest = least
    for prime in (2, 3, 5):
      while rest % prime == 0:
        rest //= prime
    if rest == 1:
      return least
    least += 1


def gated(x, gate_in, wide):
  """gate_in * x, not rounded to the dtype of its factors."""
  x = x.astype(wide)
  return x if gate_in is None else gate_in.astype(wide) * x


def place(filter, points: int, *, causal: bool, sign: int):
  """[points, channels]: the filter on a circle, distance 0 at index 0.

  Args:
    filter: [taps, channels] or, not causal, [2 * taps - 1, channels].
    points: of the circle, at least filter's length.
    causal: whether filter starts at distance 0 or is centred there.
    sign: what negative distances are multiplied with, which lie at the end:
      -1 for a circle whose wraps change the sign.
  """
  before = 0 if causal else (filter.shape[0] - 1) // 2
  zeros = points - filter.shape[0]
  return jnp.concatenate(
    [
      filter[before:],
      jnp.zeros((zeros, filter.shape[1]), filter.dtype),
      sign * filter[:before],
    ]
  )
