"""Matrix products that add up in float32."""

import jax
import jax.numpy as jnp


def dot(left, right, left_axis: int, right_axis: int):
  """Contracts one axis of each; float32 stays float32 on the matrix unit."""
  exact = left.dtype == jnp.float32
  return jax.lax.dot_general(
    left,
    right,
    (((left_axis,), (right_axis,)), ((), ())),
    precision=jax.lax.Precision.HIGHEST if exact else None,
    preferred_element_type=jnp.float32,
  )
