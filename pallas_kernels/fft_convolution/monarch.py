"""Long convolution as dense matrix products in XLA (FlashFFTConv's algorithm).

See `plan.py`. Complex numbers are an axis of size 2, so that a complex
product is one real product of twice the size, for matrix units. Everything is
recomputed in the backward pass: only the signal and the filter are kept.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pallas_kernels.fft_convolution import plan as plans
from pallas_kernels.fft_convolution import reference


def fft_convolution(x, filter, *, gate_in, causal, frequency_mask, order=None):
  """See `reference.fft_convolution`; `order` is the number of factors."""
  length = x.shape[1]
  plan = make_plan(length, filter.shape[0], causal, frequency_mask, order)
  placed = lay_out(plan, filter, causal=causal)
  return _convolution(plan, x, gate_in, placed)


def make_plan(length, size, causal, frequency_mask, order):
  """The `Plan` of a convolution with a filter of `size` rows."""
  if frequency_mask is not None:
    mask = np.ascontiguousarray(frequency_mask, bool)
    return plans.plan(length, 2 * (len(mask) - 1), order, mask.tobytes())
  taps = size if causal else (size + 1) // 2
  return plans.plan(length, length + taps - 1, order, None)


def lay_out(plan, filter, *, causal):
  """The filter as whole rows; of a causal one only those that it needs."""
  wide = jnp.promote_types(filter.dtype, jnp.float32)
  points = plan.rows(filter.shape[0]) * plan.row if causal else plan.points
  return reference.place(
    filter.astype(wide), points, causal=causal, sign=plan.sign
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolution(plan, x, gate_in, placed):
  precision, wide = _precision(x, placed)
  response = masked(plan, analyse(plan, placed[None], precision))
  signal = reference.gated(x, gate_in, wide)
  product = multiply(analyse(plan, signal, precision), response)
  return synthesise(plan, product, x.shape[1], precision)


def _convolution_forward(plan, x, gate_in, placed):
  return _convolution(plan, x, gate_in, placed), (x, gate_in, placed)


def _convolution_backward(plan, residuals, grad):
  x, gate_in, placed = residuals
  precision, wide = _precision(x, placed)
  response = masked(plan, analyse(plan, placed[None], precision))
  slope = analyse(plan, grad, precision)
  grad_signal = synthesise(
    plan, multiply(slope, response, conjugate=True), x.shape[1], precision
  )
  spectrum = analyse(plan, reference.gated(x, gate_in, wide), precision)
  product = multiply(slope, spectrum, conjugate=True)
  product = masked(plan, jnp.sum(product, 0, keepdims=True))
  grad_placed = synthesise(plan, product, placed.shape[0], precision)[0]
  grad_x = reference.gated(grad_signal, gate_in, wide).astype(x.dtype)
  grad_gate = gate_in
  if gate_in is not None:
    grad_gate = (grad_signal * x.astype(wide)).astype(gate_in.dtype)
  return grad_x, grad_gate, grad_placed.astype(placed.dtype)


_convolution.defvjp(_convolution_forward, _convolution_backward)


def _precision(x, placed):
  """Precision of products, and the dtype that they accumulate in.

  Signals of 16 bits do with 11 bits and more in each factor (TF32 on a GPU,
  three passes of bfloat16 on a TPU); bfloat16 factors would not do: four
  products after another lose three times what rounding the output loses.
  """
  wide = jnp.promote_types(jnp.result_type(x, placed), jnp.float32)
  small = jnp.finfo(x.dtype).bits == 16
  return (lax.Precision.HIGH if small else lax.Precision.HIGHEST), wide


def analyse(plan, signal, precision):
  """Frequencies [batch, .., kept, 2, channels] of a real signal.

  Args:
    plan: a `Plan`.
    signal: [batch, length, channels].
    precision: of the products.
  """
  batch, length, channels = signal.shape
  rows, wide = plan.rows(length), signal.dtype
  signal = jnp.pad(signal, ((0, 0), (0, rows * plan.row - length), (0, 0)))
  matrix = np.stack(plan.analysis(0), 1)[:, :, :rows]
  data = jnp.einsum(
    "jpn,bnm->bjpm",
    jnp.asarray(matrix, wide),
    signal.reshape(batch, rows, plan.row * channels),
    precision=precision,
  )
  done = 1
  for s in range(1, len(plan.factors)):
    data = _twiddle(plan, s - 1, data, done, channels, 1)
    done *= len(plan.kept[s - 1])
    n = plan.factors[s]
    rest = data.size // (batch * done * 2 * n)
    data = data.reshape(batch, done, 2, n, rest)
    data = jnp.einsum(
      "jpnr,bdrnm->bdjpm",
      jnp.asarray(_complex(*plan.analysis(s)), wide),
      data,
      precision=precision,
    )
  return data.reshape(batch, done, len(plan.kept[-1]), 2, channels)


def synthesise(plan, frequencies, length, precision):
  """The first `length` samples of what `analyse` returns."""
  batch, channels = frequencies.shape[0], frequencies.shape[-1]
  wide, data = frequencies.dtype, frequencies
  for s in range(len(plan.factors) - 1, 0, -1):
    kept = len(plan.kept[s])
    done = int(np.prod([len(k) for k in plan.kept[:s]]))
    rest = data.size // (batch * done * kept * 2)
    data = jnp.einsum(
      "nqjr,bdjrm->bdqnm",
      jnp.asarray(_complex(*plan.synthesis(s)), wide),
      data.reshape(batch, done, kept, 2, rest),
      precision=precision,
    )
    done //= len(plan.kept[s - 1])
    data = _twiddle(plan, s - 1, data, done, channels, -1)
  real, imaginary = plan.synthesis(0)
  rows = plan.rows(length)
  matrix = np.stack([real, -imaginary], -1)[:rows]
  kept = len(plan.kept[0])
  data = jnp.einsum(
    "njr,bjrm->bnm",
    jnp.asarray(matrix, wide),
    data.reshape(batch, kept, 2, plan.row * channels),
    precision=precision,
  )
  return data.reshape(batch, rows * plan.row, channels)[:, :length]


def multiply(a, b, *, conjugate=False):
  """a * b or a * conj(b) of complex numbers in the last axis but one."""
  ar, ai = a[..., :1, :], a[..., 1:, :]
  br, bi = b[..., :1, :], b[..., 1:, :]
  bi = -bi if conjugate else bi
  return jnp.concatenate([ar * br - ai * bi, ar * bi + ai * br], -2)


def masked(plan, frequencies):
  """The frequencies that the mask keeps, 0 elsewhere."""
  if plan.mask is None:
    return frequencies
  mask = plan.mask.reshape(1, -1, len(plan.kept[-1]), 1, 1)
  return jnp.where(jnp.asarray(mask), frequencies, 0.0)


def _complex(real, imaginary):
  """[to, 2, from, 2]: complex [to, from] as a real one on pairs."""
  top = np.stack([real, -imaginary], -1)
  bottom = np.stack([imaginary, real], -1)
  return np.stack([top, bottom], 1)


def _twiddle(plan, stage, data, done, channels, sign):
  """Multiplies with the factors between two products, or their conjugates."""
  real, imaginary = plan.twiddles[stage]
  kept, rest = real.shape
  batch = data.shape[0]
  factor = np.stack([real, sign * imaginary], 1)
  factor = factor.reshape(1, 1, kept, 2, rest, 1)
  data = data.reshape(batch, done, kept, 2, rest, channels)
  fr, fi = (jnp.asarray(f, data.dtype) for f in np.split(factor, 2, axis=3))
  dr, di = data[:, :, :, :1], data[:, :, :, 1:]
  return jnp.concatenate([dr * fr - di * fi, dr * fi + di * fr], 3)
