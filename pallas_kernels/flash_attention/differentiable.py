"""One custom gradient for every backend's pair of kernels."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from pallas_kernels._once import once
from pallas_kernels.flash_attention import operands as operands_lib

_INSTEAD = "'reference' or 'chunked'"


def differentiable(
  forward: Callable, backward: Callable, *, again: bool = False
) -> Callable:
  """attention(static, operands) -> out, with the gradient of `backward`.

  Args:
    forward: (static, operands) -> (out [batch, queries, heads, value_dim],
      lse [batch, heads, queries] float32): the logarithm (base e) of each
      row's sum of exponentials; any finite number for a row that sees no key.
    backward: (static, operands, out, lse, grad_out) -> dict of the gradients
      of the floating operands that are present, each of its operand's shape
      and dtype.
    again: whether jax can differentiate both of them; kernels it cannot, and
      second derivatives raise NotImplementedError.
  """
  if not again:
    forward = once(forward, "flash_attention", _INSTEAD)
    backward = once(backward, "flash_attention", _INSTEAD)

  @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
  def attention(static, operands):
    return forward(static, operands)[0]

  def attention_forward(static, operands):
    out, lse = forward(static, operands)
    # Named, so that rematerialization may keep what is dear to recompute.
    out = checkpoint_name(out, "attention_out")
    lse = checkpoint_name(lse, "attention_lse")
    return out, (operands, out, lse)

  def attention_backward(static, residuals, grad_out):
    operands, out, lse = residuals
    found = backward(static, operands, out, lse, grad_out)
    return (_cotangents(operands, found),)

  attention.defvjp(attention_forward, attention_backward)
  return attention


def _cotangents(operands, found: dict):
  """`found` in the shape of operands; integers get the empty float0."""

  def cotangent(name):
    value = getattr(operands, name)
    if value is None:
      return None
    if jnp.issubdtype(value.dtype, jnp.integer):
      return np.zeros(value.shape, jax.dtypes.float0)
    return found[name].astype(value.dtype).reshape(value.shape)

  names = [f.name for f in dataclasses.fields(operands_lib.Operands)]
  return operands_lib.Operands(**{name: cotangent(name) for name in names})
