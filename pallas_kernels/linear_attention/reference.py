"""Linear attention with every score written out: the specification."""

import jax.numpy as jnp
from jax import lax


def linear_attention(
  query_features, key_features, value, *, causal, segments, epsilon
):
  """See `api.linear_attention`; quadratic in length."""
  wide = jnp.promote_types(value.dtype, jnp.float32)
  query, key, value = (
    blank(x, segments).astype(wide)
    for x in (query_features, key_features, value)
  )
  precision = lax.Precision.HIGHEST
  scores = jnp.einsum("bihf,bjhf->bhij", query, key, precision=precision)
  length = query.shape[1]
  if causal:
    seen = jnp.tril(jnp.ones((length, length), bool))
    scores = jnp.where(seen[None, None], scores, 0.0)
  if segments is not None:
    same = segments[:, None, :, None] == segments[:, None, None, :]
    scores = jnp.where(same, scores, 0.0)
  total = jnp.sum(scores, -1)
  out = jnp.einsum("bhij,bjhd->bihd", scores, value, precision=precision)
  return out / (jnp.moveaxis(total, 1, 2) + epsilon)[..., None]


def blank(x, segments):
  """`x` [batch, length, ..] with 0 in padding, whatever stood there."""
  if segments is None:
    return x
  real = (segments > 0).reshape(segments.shape + (1,) * (x.ndim - 2))
  return jnp.where(real, x, jnp.zeros((), x.dtype))
