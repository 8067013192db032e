"""Contrast of two views of the same texts (NT-Xent, arXiv:2002.05709)."""

import jax
import jax.numpy as jnp

NEVER = -1e9  # a logit that no softmax sees


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
  views = jnp.concatenate([unit(first), unit(second)])
  counts = jnp.concatenate([real, real])
  rows = real.shape[0]
  scores = jnp.matmul(views, views.T, precision="highest") / temperature
  own = jnp.eye(2 * rows, dtype=bool)
  scores = jnp.where(own | (counts[None, :] == 0), NEVER, scores)
  other = jnp.roll(jnp.arange(2 * rows), rows)
  positive = jnp.take_along_axis(scores, other[:, None], axis=1)[:, 0]
  loss = jax.nn.logsumexp(scores, axis=1) - positive
  return jnp.sum(jnp.where(counts > 0, loss, 0.0)) / 2


def candidates(first, others, there, temperature: float, bonus: float = 0.0):
  """How well each anchor tells its positive among all candidates.

  -log softmax of cosine over temperature, one direction alone (SimCSE,
  arXiv:2104.08821, eq. 1 and 5). Candidates are the positives and the hard
  negatives of all rows: those of all devices, but of one microbatch.

  Args:
    first: anchors, [rows, width].
    others: [rows, kinds, width], the positive and hard negatives of a row.
    there: [rows, kinds], 1 or True where there is one; a row without a
      positive does not count.
    temperature: divides cosines.
    bonus: added to the scores of a row's own hard negatives.

  Returns:
    The loss of each row, 0 where it does not count; whether the positive has
    the best score; and the cosine of anchor and positive, float32 [rows].
  """
  rows, kinds, _ = others.shape
  there = there > 0
  cosines = jnp.einsum(
    "iw,jkw->ikj", unit(first), unit(others), precision="highest"
  )
  own = jnp.eye(rows)[:, None, :] * (jnp.arange(kinds) > 0)[None, :, None]
  scores = cosines / temperature + bonus * own
  scores = jnp.where(there.T[None], scores, NEVER)
  positive = jnp.diagonal(scores[:, 0])
  counts = there[:, 0]
  flat = scores.reshape(rows, kinds * rows)
  loss = jax.nn.logsumexp(flat, axis=1) - positive
  best = positive >= jnp.max(flat, axis=1)
  cosine = jnp.diagonal(cosines[:, 0])
  return jnp.where(counts, loss, 0.0), best & counts, cosine * counts


def of_classes(states, labels, real, temperature: float):
  """How well each item tells those of its class among all (SupCon).

  Of each anchor the mean over the others of its class of -log softmax over
  all others, by cosine over temperature (Khosla et al., arXiv:2004.11362, eq.
  2).

  Args:
    states: [items, width].
    labels: int [items].
    real: [items], 1 or True where an item counts.
    temperature: divides cosines.

  Returns:
    The loss of each anchor, 0 where it has no positive, float32 [items].
  """
  states = unit(states)
  scores = jnp.matmul(states, states.T, precision="highest") / temperature
  other = ~jnp.eye(len(labels), dtype=bool) & (real[None, :] > 0)
  total = jax.nn.logsumexp(jnp.where(other, scores, NEVER), axis=1)
  positive = positives(labels, real)
  losses = jnp.where(positive, total[:, None] - scores, 0.0)
  return jnp.sum(losses, axis=1) / jnp.maximum(jnp.sum(positive, axis=1), 1)


def positives(labels, real):
  """Which other items are of an item's class, bool [items, items]."""
  real = real > 0
  same = labels[:, None] == labels[None, :]
  both = real[:, None] & real[None, :]
  return same & both & ~jnp.eye(len(labels), dtype=bool)


def unit(x):
  """Rows of x [..., width] on the sphere, float32; a row of zeros stays."""
  x = x.astype(jnp.float32)
  # Inside the root, so that a row of zeros has a gradient of 0 and not NaN.
  norm = jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-24)
  return x / norm
