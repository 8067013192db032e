"""The product of activations and a kernel, with a fast gradient on CPUs.

XLA hands a matrix product on a CPU to a library only where the left matrix is
contracted along its last axis; the gradient of a kernel, x^T g, is not so, and
runs at half speed (measured: 44 against 80 GFLOP/s on one core). Here the
narrower of x and g is transposed in memory first. Elsewhere this is
`jax.lax.dot_general`.
"""

import jax
from jax.lax import dot_general as _dot_general
from jax.lax import optimization_barrier


def dot_general(x, kernel, dimension_numbers, precision=None, **options):
  """x [..., in] times kernel [in, out]; the hook of `flax.linen.Dense`."""
  plain = jax.default_backend() != "cpu" or precision is not None or options
  last = (((x.ndim - 1,), (0,)), ((), ()))
  if plain or dimension_numbers != last or kernel.ndim != 2:
    return _dot_general(
      x, kernel, dimension_numbers, precision=precision, **options
    )
  flat = _product(x.reshape(-1, x.shape[-1]), kernel)
  return flat.reshape(*x.shape[:-1], kernel.shape[1])


def _contract(a, b, axes):
  return _dot_general(a, b, ((axes[:1], axes[1:]), ((), ())))


@jax.custom_vjp
def _product(x, kernel):
  """[n, in] times [in, out]."""
  return _contract(x, kernel, (1, 0))


def _forward(x, kernel):
  return _contract(x, kernel, (1, 0)), (x, kernel)


def _backward(saved, g):
  x, kernel = saved
  return _contract(g, kernel, (1, 1)), _kernel_gradient(x, g)


def _kernel_gradient(x, g):
  """x^T g. Barriers keep the compiler from undoing the transpositions."""
  if x.shape[1] <= g.shape[1]:
    return _contract(optimization_barrier(x.T), g, (1, 0))
  narrow = _contract(optimization_barrier(g.T), x, (1, 0))
  return optimization_barrier(narrow).T


_product.defvjp(_forward, _backward)
