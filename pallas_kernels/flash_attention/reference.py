"""Attention in plain XLA: the specification that kernels are held against."""

import jax
import jax.numpy as jnp

from pallas_kernels import dropout


def visible(
  query_index, key_index, *, query_segments, key_segments, causal, window
):
  """Which key each query may see.

  Args:
    query_index: [queries] int32, place of each query among the keys.
    key_index: [keys] int32.
    query_segments: [batch, queries] int32 or None; 0 is padding.
    key_segments: [batch, keys] int32 or None.
    causal: keys after the query are hidden.
    window: (before, after) keys that are seen, or None for all.

  Returns:
    [1 or batch, 1, queries, keys] bool, or None where all see all.
  """
  distance = key_index[None, :] - query_index[:, None]
  rules = []
  if causal:
    rules.append((distance <= 0)[None])
  if window is not None:
    before, after = window
    rules.append(((distance >= -before) & (distance <= after))[None])
  if query_segments is not None:
    same = query_segments[:, :, None] == key_segments[:, None, :]
    rules.append(same & (key_segments > 0)[:, None, :])
  if not rules:
    return None
  seen = rules[0]
  for rule in rules[1:]:
    seen = seen & rule
  return seen[:, None]


def without_padding(x, segments):
  """x [batch, length, heads, channels] with 0 where the segment is 0.

  What stands at padding may be NaN, and 0 * NaN is no 0, in the products of
  the forward pass nor in those of the gradients.
  """
  return jnp.where((segments > 0)[:, :, None, None], x, 0)


def scores(query, key, *, bias, query_index, key_index, scale, soft_cap):
  """[batch, heads, queries, keys] in float32 or wider, before masking."""
  wide = jnp.promote_types(query.dtype, jnp.float32)
  if key.shape[2] != query.shape[2]:
    key = jnp.repeat(key, query.shape[2] // key.shape[2], axis=2)
  # There are fewer queries than scores, but bfloat16 ones would be rounded.
  early = query.dtype == wide
  logits = jnp.einsum(
    "bqhd,bkhd->bhqk",
    query * scale if early else query,
    key,
    preferred_element_type=wide,
  )
  logits = logits if early else logits * scale
  if bias is not None:
    logits = logits + bias.dense(query_index, key_index).astype(wide)
  if soft_cap is not None:
    logits = soft_cap * jnp.tanh(logits / soft_cap)
  return logits


def probabilities(logits, seen):
  """Softmax over the visible keys; uniform for a query that sees none."""
  if seen is not None:
    # The lowest finite number, not -inf: an empty row is not NaN then.
    logits = jnp.where(seen, logits, jnp.finfo(logits.dtype).min)
  return jax.nn.softmax(logits, axis=-1)


def attention(
  query,
  key,
  value,
  *,
  bias,
  query_segments,
  key_segments,
  query_offset,
  causal,
  window,
  scale,
  soft_cap,
  dropout_rate,
  dropout_key,
  with_probabilities=False,
):
  """See `api.flash_attention`; arguments are the same, all given."""
  if query_segments is not None:
    query = without_padding(query, query_segments)
    key, value = (without_padding(x, key_segments) for x in (key, value))
  query_index = query_offset + jnp.arange(query.shape[1])
  key_index = jnp.arange(key.shape[1])
  logits = scores(
    query,
    key,
    bias=bias,
    query_index=query_index,
    key_index=key_index,
    scale=scale,
    soft_cap=soft_cap,
  )
  seen = visible(
    query_index,
    key_index,
    query_segments=query_segments,
    key_segments=key_segments,
    causal=causal,
    window=window,
  )
  weights = probabilities(logits, seen)
  kept = weights
  if dropout_rate > 0.0:
    # Zeros among the probabilities, the factor on the values: they are fewer.
    keep = dropout.keep(dropout_key, dropout_rate, weights.shape)
    kept = jnp.where(keep, weights, 0.0)
    value = (value * (1.0 / (1.0 - dropout_rate))).astype(value.dtype)
  if value.shape[2] != query.shape[2]:
    value = jnp.repeat(value, query.shape[2] // value.shape[2], axis=2)
  out = jnp.einsum(
    "bhqk,bkhd->bqhd",
    kept.astype(value.dtype),
    value,
    preferred_element_type=logits.dtype,
  )
  if seen is not None:  # a query that sees no key gives 0
    sees_any = jnp.any(seen, axis=-1, keepdims=True).astype(out.dtype)
    out = out * jnp.moveaxis(sees_any, 1, 2)
  out = out.astype(query.dtype)
  if not with_probabilities:
    return out
  return out, weights if seen is None else weights * sees_any
