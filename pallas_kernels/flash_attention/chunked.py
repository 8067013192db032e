"""Attention in plain XLA, linear in memory, on any device.

A scan over blocks of keys keeps each row's running maximum and sum (Milakov
and Gimelshein, arXiv:1805.02867; Rabe and Staats, arXiv:2112.05682); the
backward pass computes each block's scores again from the rows' lse. No array
of [queries, keys] is made, but for a dense bias that is given, its gradient
and their copies in blocks.
"""

import jax
import jax.numpy as jnp

from pallas_kernels.flash_attention import operands as operands_lib
from pallas_kernels.flash_attention import reference
from pallas_kernels.flash_attention._chunks import Blocks as Blocks
from pallas_kernels.flash_attention._chunks import Call, Terms, padded
from pallas_kernels.flash_attention.differentiable import differentiable
from pallas_kernels.flash_attention.operands import Operands, Static

_HIDDEN = -1e30  # finite: the difference of two is not NaN


def attention(
  query, key, value, *, query_offset, with_probabilities=False, **arguments
):
  """See `api.flash_attention`; all other arguments are given.

  Probabilities are as large as what is avoided here, and a query_offset that
  is only known when the program runs comes with few queries (decoding): both
  are computed by the reference.

  Raises:
    NotImplementedError: biases that `operands.lower` cannot say.
  """
  if with_probabilities or isinstance(query_offset, jax.core.Tracer):
    return reference.attention(
      query,
      key,
      value,
      query_offset=query_offset,
      with_probabilities=with_probabilities,
      **arguments,
    )
  static, operands = operands_lib.lower(
    query, key, value, query_offset=query_offset, **arguments
  )
  return attend(static, operands)


def _forward(static: Static, operands: Operands):
  call = Call(static, operands)
  terms = Terms(call)

  def step(carry, own):
    top, total, out = carry
    logits, _, _ = _logits(call, terms, own)
    seen = call.seen(own)
    logits = jnp.where(seen, logits, _HIDDEN)
    new = jnp.maximum(top, jnp.max(logits, -1))
    weights = jnp.where(seen, jnp.exp(logits - new[..., None]), 0.0)
    fade = jnp.exp(top - new)
    total = total * fade + jnp.sum(weights, -1)
    if static.dropout_rate > 0.0:
      weights = weights * call.kept(own)
    more = jnp.einsum(
      "bhij,bjhd->bhid",
      weights.astype(call.dtype),
      call.spread(own["value"]),
      preferred_element_type=call.wide,
    )
    return (new, total, out * fade[..., None] + more), None

  rows = (call.batch, call.heads, call.rows)
  start = (
    jnp.full(rows, _HIDDEN, call.wide),
    jnp.zeros(rows, call.wide),
    jnp.zeros((*rows, call.value_dim), call.wide),
  )
  (top, total, out), _ = jax.lax.scan(step, start, call.own)
  some = jnp.where(total > 0, total, 1.0)
  lse = jnp.where(total > 0, top + jnp.log(some), 0.0)
  out = jnp.moveaxis(out / some[..., None], 1, 2).astype(call.dtype)
  return out[:, : call.queries], lse[:, :, : call.queries]


def _logits(call: Call, terms: Terms, own):
  """(scores, pull of the biases or None, derivative of the cap or None)."""
  shared_terms = terms.floating(call.shared)
  own_terms = terms.floating(own)
  logits, pull, slope = call.products(own), None, None
  if shared_terms or own_terms:
    run = lambda shared, own_: terms(
      shared, own_, own["start"], own.get("key_first")
    )
    bias, pull = jax.vjp(run, shared_terms, own_terms)
    logits = logits + bias
  cap = call.static.soft_cap
  if cap is not None:
    tanh = jnp.tanh(logits / cap)
    logits, slope = cap * tanh, 1.0 - tanh * tanh
  return logits, pull, slope


def _backward(static: Static, operands: Operands, out, lse, grad_out):
  call = Call(static, operands)
  terms = Terms(call)
  wide, dtype = call.wide, call.dtype
  dot = lambda spec, a, b: jnp.einsum(spec, a, b, preferred_element_type=wide)
  delta = jnp.sum(out.astype(wide) * grad_out.astype(wide), -1)
  delta = padded(jnp.moveaxis(delta, 1, 2), 2, call.rows)[..., None]
  lse = padded(lse, 2, call.rows)[..., None]
  grad_out = padded(grad_out, 1, call.rows)

  def block(own):
    """(weights, those kept, their gradients, pull, slope)."""
    logits, pull, slope = _logits(call, terms, own)
    weights = jnp.exp(jnp.where(call.seen(own), logits - lse, _HIDDEN))
    grads = dot("bihd,bjhd->bhij", grad_out, call.spread(own["value"]))
    if static.dropout_rate == 0.0:
      return weights, weights, grads, pull, slope
    keep = call.kept(own)
    return weights, weights * keep, grads * keep, pull, slope

  # Their gradients add up whole rows, whose terms cancel: what rounded outputs
  # leave of delta would show, so it is summed anew (theta's in float32, too).
  learned = ["theta"]
  if jnp.dtype(out.dtype).itemsize < 4:
    learned += ["slopes", "toeplitz", "c2p", "p2c"]
  if any(getattr(operands, name) is not None for name in learned):

    def add(total, own):
      weights, _, grads, _, _ = block(own)
      return total + jnp.sum(weights * grads, -1, keepdims=True), None

    delta, _ = jax.lax.scan(add, jnp.zeros_like(delta), call.own)

  def step(carry, own):
    grad_query, grad_shared = carry
    weights, kept, grads, pull, slope = block(own)
    grads = weights * (grads - delta)
    if slope is not None:
      grads = grads * slope
    own_grads = {}
    if pull is not None:
      more, own_grads = pull(grads)
      grad_shared = jax.tree.map(jnp.add, grad_shared, more)
    grads = (grads * static.scale).astype(dtype)
    grad_query += dot("bhij,bjhd->bihd", grads, call.spread(own["key"]))
    grad_key = dot("bhij,bihd->bjhd", grads, call.shared["query"])
    grad_value = dot("bhij,bihd->bjhd", kept.astype(dtype), grad_out)
    own_grads["key"] = call.gathered(grad_key).astype(dtype)
    own_grads["value"] = call.gathered(grad_value).astype(dtype)
    return (grad_query, grad_shared), own_grads

  start = (
    jnp.zeros(call.shared["query"].shape, wide),
    jax.tree.map(jnp.zeros_like, terms.floating(call.shared)),
  )
  (grad_query, found), own = jax.lax.scan(step, start, call.own)
  found["query"] = grad_query
  for name in ("query", "c2p"):
    if name in found:
      found[name] = found[name][:, : call.queries]
  for name, x in own.items():
    found[name] = call.join_keys(x, 3 if name == "dense" else 1)
  if "dense" in found:
    found["dense"] = found["dense"][:, :, : call.queries]
  return found


_differentiable = differentiable(_forward, _backward, again=True)


def attend(static: Static, operands: Operands) -> jax.Array:
  """Attention of `operands`, differentiable by all that is floating.

  Args:
    static: options; `blocks` is a `Blocks` or None.
    operands: see `operands.Operands`.

  Returns:
    [batch, queries, heads, value_dim] in query's dtype.
  """
  return _differentiable(static, operands)
