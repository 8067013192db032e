"""FLOPs of a function, counted over its jaxpr: products, convolutions, FFTs.

Loops count as often as they run, which XLA's own analysis does not tell. Of
`cond` the dearest branch counts; element-wise work does not.
"""

import math

import jax
import numpy as np


def count(function, *arguments) -> float:
  """FLOPs of one call, 2 for a multiply-add.

  Args:
    function: traceable.
    *arguments: arrays or shapes.

  Raises:
    ValueError: a loop whose number of turns is not known, or a kernel.
  """
  return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of(jaxpr) -> float:
  return sum(_COUNTS.get(e.primitive.name, _inner)(e) for e in jaxpr.eqns)


def _dot(equation) -> float:
  ((contracted, _), _) = equation.params["dimension_numbers"]
  left = equation.invars[0].aval.shape
  terms = math.prod(left[i] for i in contracted)
  return 2.0 * equation.outvars[0].aval.size * terms


def _convolution(equation) -> float:
  kernel = equation.invars[1].aval
  numbers = equation.params["dimension_numbers"]
  outputs = kernel.shape[numbers.rhs_spec[0]]
  return 2.0 * equation.outvars[0].aval.size * kernel.size / outputs


def _fft(equation) -> float:
  lengths = equation.params["fft_lengths"]
  points = math.prod(lengths)
  kind = equation.params["fft_type"]
  real = kind in (jax.lax.FftType.RFFT, jax.lax.FftType.IRFFT)
  kept = equation.outvars[0].aval, equation.invars[0].aval
  size = max(np.prod(aval.shape) for aval in kept)
  # 5 n log2 n of a complex transform, half of that of a real one.
  return (2.5 if real else 5.0) * size * math.log2(max(points, 2))


def _scan(equation) -> float:
  return equation.params["length"] * _of(equation.params["jaxpr"].jaxpr)


def _cond(equation) -> float:
  return max(_of(branch.jaxpr) for branch in equation.params["branches"])


def _loop(equation) -> float:
  inner = _of(equation.params["body_jaxpr"].jaxpr)
  if inner:
    raise ValueError("a while loop with products has no known length")
  return 0.0


def _kernel(equation) -> float:
  raise ValueError(f"{equation.primitive.name}: a kernel's FLOPs are not known")


def _inner(equation) -> float:
  """Of calls: whatever jaxprs their parameters hold, each once."""
  found = 0.0
  for value in equation.params.values():
    inner = getattr(value, "jaxpr", value)
    if hasattr(inner, "eqns"):
      found += _of(inner)
  return found


_COUNTS = {
  "dot_general": _dot,
  "conv_general_dilated": _convolution,
  "fft": _fft,
  "scan": _scan,
  "cond": _cond,
  "while": _loop,
  "pallas_call": _kernel,
}
