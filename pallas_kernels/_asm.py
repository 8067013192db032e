"""Instructions that XLA's Triton does not choose by itself.

It neither contracts a product and a sum to one instruction nor flushes
denormal numbers, which costs a flash-attention tile a quarter of all its
instructions (counted in compiled code). Pallas' interpreter knows no assembly
and gets the same mathematics from jnp.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton as pltriton


def exp2(x, *, interpret: bool = False):
  """2^x of a float32 array; in one instruction, accurate to 2 ulp."""
  if interpret:
    return jnp.exp2(x)
  return _assembly("ex2.approx.ftz.f32 $0, $1;", "=f,f", x)


def reciprocal(x, *, interpret: bool = False):
  """1 / x of a float32 array; in one instruction, accurate to 1 ulp."""
  if interpret:
    return 1.0 / x
  return _assembly("rcp.approx.ftz.f32 $0, $1;", "=f,f", x)


def fma(a, b, c, *, interpret: bool = False):
  """a * b + c in float32, rounded once; b and c are broadcast to a's shape."""
  b = jnp.broadcast_to(jnp.asarray(b, a.dtype), a.shape)
  c = jnp.broadcast_to(jnp.asarray(c, a.dtype), a.shape)
  if interpret:
    return a * b + c
  return _assembly("fma.rn.ftz.f32 $0, $1, $2, $3;", "=f,f,f,f", a, b, c)


def _assembly(code, constraints, *args):
  shape = jax.ShapeDtypeStruct(args[0].shape, jnp.float32)
  return pltriton.elementwise_inline_asm(
    code,
    args=list(args),
    constraints=constraints,
    pack=1,
    result_shape_dtypes=[shape],
  )[0]
