"""What kernels of linear attention share: all is one product.

Every sum of this op and of its gradients has one form, with a mask over
(row, column) that is that of attention or its transpose:

  product_i = sum_j mask_ij (a_i . b_j + alpha_i beta_j) c_j

  out (unscaled)  a, b, c = query, key, value
  grad_query      a, b, c = grad, value, key     alpha = -grad . out, beta = 1
  grad_key        a, b, c = value, grad, query   alpha = 1, beta = -grad . out
  grad_value      a, b, c = key, query, grad

where grad is the gradient of out over the denominator.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from pallas_kernels import _compat, _platform
from pallas_kernels.flash_attention import sharded
from pallas_kernels.linear_attention.chunked import fill


def attend(product, name, static, query, key, value, segments):
  """Attention and its gradients, each device on its own rows and heads.

  Args:
    product: (static, name, a, b, c, documents, *, alpha=None, beta=None, dtype,
      transposed=False, with_total=False) -> product_i in dtype, or with
      `with_total` (it, sum_j mask_ij a_i . b_j in float32). a and b are
      [batch, length, heads, width], c [batch, length, heads, channels];
      documents [batch, length] int32 or None, negative in padding; alpha and
      beta [batch, length, heads] float32, 1 where only the other is given.
      With `transposed` a causal mask is that of keys against queries.
    name: of the implementation.
    static: for `product`, hashable, with `epsilon`.
    query: [batch, length, heads, features].
    key: [batch, length, heads, features].
    value: [batch, length, heads, head_dim].
    segments: [batch, length] integer or None.

  Raises:
    NotImplementedError: rows or heads do not divide over the mesh.
  """
  documents = None
  if segments is not None:
    documents = fill(segments.astype(jnp.int32))
    # The sign tells padding, which has the document around it.
    documents = jnp.where(segments > 0, documents, -documents)
  run = functools.partial(_attend, product, static)
  mesh = _platform.mesh_of((query, key, value))
  if not sharded.free_axes(mesh):
    return run(query, key, value, documents)
  rows, heads = (axes or None for axes in sharded.split_axes(mesh))
  if sharded.divided(mesh, *query.shape[::2][:2]) != mesh.size:
    raise NotImplementedError(
      f"linear_attention '{name}': {query.shape[0]} rows or {query.shape[2]} "
      f"heads do not divide over the mesh {dict(mesh.shape)}"
    )
  spec = P(rows, None, heads, None)
  return _compat.shard_map(
    run,
    mesh=mesh,
    in_specs=(spec, spec, spec, None if documents is None else P(rows, None)),
    out_specs=spec,
  )(query, key, value, documents)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(product, static, query, key, value, documents):
  return _forward(product, static, query, key, value, documents)[0]


def _forward(product, static, query, key, value, documents):
  out, total = product(
    static,
    "out",
    query,
    key,
    value,
    documents,
    dtype=jnp.float32,
    with_total=True,
  )
  out = out / (total + static.epsilon)[..., None]
  # Kept in float32: grad . out stands against sums of positive features.
  return out.astype(value.dtype), (query, key, value, documents, out, total)


def _backward(product, static, residuals, grad):
  query, key, value, documents, out, total = residuals
  grad = grad.astype(jnp.float32) / (total + static.epsilon)[..., None]
  grad = grad.astype(value.dtype)
  slope = -jnp.sum(grad.astype(jnp.float32) * out, -1)
  run = functools.partial(product, static, documents=documents)
  back = functools.partial(run, transposed=True)
  grad_query = run(
    "grad_query", grad, value, key, alpha=slope, dtype=query.dtype
  )
  grad_key = back("grad_key", value, grad, query, beta=slope, dtype=key.dtype)
  grad_value = back("grad_value", key, query, grad, dtype=value.dtype)
  none = documents
  if documents is not None:
    none = np.zeros(documents.shape, jax.dtypes.float0)
  return grad_query, grad_key, grad_value, none


_attend.defvjp(_forward, _backward)
