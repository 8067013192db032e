"""One custom gradient for every backend's pair of kernels."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from pallas_kernels._once import once

_INSTEAD = "'reference'"


def differentiable(forward: Callable, backward: Callable) -> Callable:
  """convolution(static, values, logits, segments) -> out.

  Nothing but the arguments is kept for the backward pass: the softmax over a
  handful of taps is cheaper to repeat than to store.

  Args:
    forward: (static, values, logits, segments or None) -> out.
    backward: (static, values, logits, segments or None, grad_out) ->
      (grad_values, grad_logits), of their arguments' shapes and dtypes.

  Second derivatives raise NotImplementedError.
  """
  forward = once(forward, "dynamic_convolution", _INSTEAD)
  backward = once(backward, "dynamic_convolution", _INSTEAD)

  @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
  def convolution(static, values, logits, segments):
    return forward(static, values, logits, segments)

  def convolution_forward(static, values, logits, segments):
    out = forward(static, values, logits, segments)
    return out, (values, logits, segments)

  def convolution_backward(static, arguments, grad_out):
    segments = arguments[2]
    none = segments
    if segments is not None:
      none = np.zeros(segments.shape, jax.dtypes.float0)
    return (*backward(static, *arguments, grad_out), none)

  convolution.defvjp(convolution_forward, convolution_backward)
  return convolution
