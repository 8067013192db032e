"""Taps beside each other in lanes, and taps along the diagonals of a band."""

import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # of a register, and columns of a band
HALO = 16  # positions around a window's own; a multiple of every packing
OWN = LANES - 2 * HALO  # positions that a window computes


def lane(shape):
  """Each element's lane."""
  return lax.broadcasted_iota(jnp.int32, shape, 1)


def row(shape):
  """Each element's row."""
  return lax.broadcasted_iota(jnp.int32, shape, 0)


def softmax(logits, real, *, width: int, heads: int):
  """Softmax of every group of `width` lanes.

  Args:
    logits: [rows, LANES] float32, head after head; anything after `heads`.
    real: [rows, LANES] bool; other rows get uniform taps.
    width: taps of a head.
    heads: groups.
  """
  logits = jnp.where(real & (lane(logits.shape) < heads * width), logits, 0.0)
  weights = jnp.exp(logits - _maximum(logits, width))
  return weights / group_sum(weights, width)


def group_sum(x, width: int):
  """Sums of every group of `width` lanes, in all its lanes; x is finite."""
  shape = LANES, LANES
  ones = _group(row(shape), width) == _group(lane(shape), width)
  return dot(x, ones.astype(jnp.float32), ((1,), (0,)))


def spread(taps, head: int, offset: int, width: int):
  """The band [rows, LANES] of one head: tap lane - row + offset, or 0."""
  tap = lane(taps.shape) - row(taps.shape) + offset
  band = _take(taps, tap + head * width)
  return jnp.where((tap >= 0) & (tap < width), band, 0.0)


def collect(band, others, head: int, offset: int, width: int):
  """`spread` backwards: `others`, but the taps of one head from a band."""
  tap = lane(band.shape) - head * width
  found = _take(band, tap + row(band.shape) - offset)
  return jnp.where((tap >= 0) & (tap < width), found, others)


def dot(a, b, contracting):
  """Product in float32, of all bits where the operands have them."""
  exact = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
  return lax.dot_general(
    a,
    b,
    (contracting, ((), ())),
    precision=exact,
    preferred_element_type=jnp.float32,
  )


def _take(x, index):
  """x[i, index[i, j]] with places counted around the lanes."""
  return jnp.take_along_axis(x, index & (LANES - 1), axis=1)


def _maximum(x, width):
  """Largest of every group of `width` lanes, in all its lanes.

  The largest of the last `width` lanes at every lane, by doubling; then each
  takes what the last lane of its group has.
  """
  covered = 1
  while covered < width:
    step = min(covered, width - covered)
    x = jnp.maximum(x, pltpu.roll(x, step, 1))
    covered += step
  last = (_group(lane(x.shape), width) + 1) * width - 1
  return _take(x, jnp.minimum(last, LANES - 1))


def _group(index, width):
  """index // width for 0 <= index < LANES, without a division."""
  return lax.shift_right_logical(index * (65536 // width + 1), 16)
