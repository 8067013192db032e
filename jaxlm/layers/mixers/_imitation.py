"""How well linear attention imitates softmax attention (Hedgehog, eq. 6)."""

import jax
import jax.numpy as jnp

from pallas_kernels.flash_attention import flash_attention


def softmax_attention(query, key, value, ctx, causal: bool):
  """The teacher: what softmax attention gives, and its probabilities.

  Args:
    query, key, value: [batch, length, heads, head_dim].
    ctx: the context; its segments are kept apart.
    causal: hide keys after the query.

  Returns:
    [batch, length, heads, head_dim] and [batch, heads, length, length], which
    no gradient leaves.
  """
  out, probabilities = flash_attention(
    query,
    key,
    value,
    segments=ctx.segments,
    causal=causal,
    with_probabilities=True,
  )
  return out, jax.lax.stop_gradient(probabilities)


def cross_entropy(probabilities, query_features, key_features, ctx):
  """-sum_j p_ij log a_ij, a linear attention's weights, and p's entropy.

  a_ij = f(q_i) . g(k_j) / sum_m f(q_i) . g(k_m) over the keys m that the
  teacher sees.

  Args:
    probabilities: p, [batch, heads, length, length], 0 where unseen.
    query_features, key_features: [batch, length, heads, features].
    ctx: the context.

  Returns:
    Two arrays [batch, length], float32 or wider: means over heads, 0 at
    padding. Their difference is the Kullback-Leibler divergence.
  """
  wide = jnp.promote_types(probabilities.dtype, jnp.float32)
  p = probabilities.astype(wide)
  seen = p > 0
  scores = jnp.einsum(
    "bihf,bjhf->bhij", query_features.astype(wide), key_features.astype(wide)
  )
  smallest = jnp.finfo(wide).tiny
  scores = jnp.where(seen, jnp.maximum(scores, smallest), 0.0)
  total = jnp.maximum(jnp.sum(scores, -1, keepdims=True), smallest)
  log_weights = jnp.where(seen, _log(scores, seen) - jnp.log(total), 0.0)
  losses = (
    -jnp.sum(p * log_weights, -1),
    -jnp.sum(p * _log(p, seen), -1),
  )
  return tuple(jnp.mean(each, axis=1) * ctx.mask for each in losses)


def _log(x, where):
  """log x, and 0 with no gradient elsewhere."""
  return jnp.where(where, jnp.log(jnp.where(where, x, 1.0)), 0.0)
