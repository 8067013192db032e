"""Contrast of two views of the same texts (NT-Xent, arXiv:2002.05709)."""

import jax
import jax.numpy as jnp

_NEVER = -1e9  # a logit that no softmax sees


def mean_pooled(states, real):
  """The mean of the states at real tokens, float32 [rows, width].

  Args:
    states: [rows, length, width].
    real: bool or 0/1 [rows, length]; a row without tokens is 0.
  """
  real = real.astype(jnp.float32)[..., None]
  total = jnp.sum(states.astype(jnp.float32) * real, axis=1)
  return total / jnp.maximum(jnp.sum(real, axis=1), 1.0)


def nt_xent(first, second, real, temperature: float = 1.0):
  """How well each view tells its text among all others, summed over rows.

  Of each row's first view the cross-entropy of finding its second among the
  other views of all rows, by cosine over temperature; the same the other way,
  and the mean of both. 2 rows - 2 negatives, those of all devices, but of one
  microbatch alone.

  Args:
    first, second: [rows, width].
    real: [rows], 1 or True where a row counts; others are no negatives.
    temperature: divides cosines.

  Returns:
    A float32 scalar.
  """
  real = real.astype(jnp.float32)
  views = jnp.concatenate([_unit(first), _unit(second)])
  counts = jnp.concatenate([real, real])
  rows = real.shape[0]
  scores = jnp.matmul(views, views.T, precision="highest") / temperature
  own = jnp.eye(2 * rows, dtype=bool)
  scores = jnp.where(own | (counts[None, :] == 0), _NEVER, scores)
  other = jnp.roll(jnp.arange(2 * rows), rows)
  positive = jnp.take_along_axis(scores, other[:, None], axis=1)[:, 0]
  loss = jax.nn.logsumexp(scores, axis=1) - positive
  return jnp.sum(jnp.where(counts > 0, loss, 0.0)) / 2


def _unit(x):
  x = x.astype(jnp.float32)
  # Inside the root, so that a row of zeros has a gradient of 0 and not NaN.
  norm = jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-24)
  return x / norm
