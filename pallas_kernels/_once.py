"""Functions that are differentiated by a rule of their own, and only once."""

import functools
from collections.abc import Callable

import jax


def once(function: Callable, what: str, instead: str) -> Callable:
  """`function`, which refuses to be differentiated.

  For the two halves of a custom gradient: what differentiates these asks for
  second derivatives (Hessian-vector products, as of AdaHessian), which Pallas
  answers deep inside of a kernel or not at all.

  Args:
    function: (hashable options, *trees of arrays) -> tree of arrays.
    what: it is part of, as 'flash_attention'.
    instead: implementations that have second derivatives, in words.

  Raises:
    NotImplementedError: from what is returned, when it is differentiated.
  """

  @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
  def run(static, *arrays):
    return function(static, *arrays)

  @run.defjvp
  def refuse(static, primals, tangents):
    raise NotImplementedError(
      f"the kernels of {what} have no second derivatives; "
      f"implementation={instead} has"
    )

  return run
