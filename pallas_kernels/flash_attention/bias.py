"""Score biases that say what they are, so that kernels need no dense array.

Each is a pytree with `dense(query_index, key_index) -> [1 or batch, heads,
queries, keys]` in float32 or wider, the specification of what it adds to the
scores.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp


def _pytree(cls):
  cls = dataclasses.dataclass(frozen=True)(cls)
  fields = {"data": [], "meta": []}
  for field in dataclasses.fields(cls):
    fields["meta" if field.metadata.get("static") else "data"].append(
      field.name
    )
  return jax.tree_util.register_dataclass(
    cls, data_fields=fields["data"], meta_fields=fields["meta"]
  )


def _static(default):
  return dataclasses.field(default=default, metadata={"static": True})


@_pytree
class Alibi:
  """-slope * |i - j| (Press et al., arXiv:2108.12409), symmetric.

  Attributes:
    slopes: [heads] float32.
  """

  slopes: jax.Array

  def dense(self, query_index, key_index):
    """[1, heads, queries, keys]."""
    distance = jnp.abs(query_index[:, None] - key_index[None, :])
    return -self.slopes[None, :, None, None] * distance[None, None]


@_pytree
class Buckets:
  """A learned value per head and bucket of j - i (T5, arXiv:1910.10683).

  Attributes:
    table: [buckets, heads] float32.
    bidirectional: whether keys after the query have buckets of their own.
    max_distance: distances from here on share the last bucket.
  """

  table: jax.Array
  bidirectional: bool = _static(True)
  max_distance: int = _static(128)

  def dense(self, query_index, key_index):
    """[1, heads, queries, keys]."""
    bucket = relative_bucket(
      key_index[None, :] - query_index[:, None],
      buckets=self.table.shape[0],
      max_distance=self.max_distance,
      bidirectional=self.bidirectional,
    )
    wide = jnp.promote_types(self.table.dtype, jnp.float32)
    return jnp.moveaxis(self.table[bucket], -1, 0)[None].astype(wide)


@_pytree
class Dense:
  """Any bias, as it is.

  Attributes:
    array: [1 or batch, 1 or heads, queries, keys].
  """

  array: jax.Array

  def dense(self, query_index, key_index):
    """The array."""
    del query_index, key_index
    return self.array


@_pytree
class Sum:
  """Several biases added up.

  Attributes:
    terms: tuple of biases.
  """

  terms: tuple

  def dense(self, query_index, key_index):
    """[1 or batch, heads, queries, keys]."""
    return sum(term.dense(query_index, key_index) for term in self.terms)


def add(first, second):
  """The sum of two biases, either of which may be None."""
  if first is None or second is None:
    return second if first is None else first
  return Sum((first, second))


def alibi_slopes(heads: int) -> jax.Array:
  """[heads] float32 slopes (arXiv:2108.12409, section 3).

  A geometric sequence for a power of two; otherwise that of the next lower
  power, then every other one of the next higher.
  """

  def powers(n):
    return [2.0 ** (-8.0 * (k + 1) / n) for k in range(n)]

  lower = 2 ** math.floor(math.log2(heads))
  slopes = powers(lower) + powers(2 * lower)[0::2][: heads - lower]
  return jnp.asarray(slopes, jnp.float32)


def relative_bucket(distance, *, buckets, max_distance, bidirectional):
  """T5's bucket of a distance key - query: exact, then logarithmic.

  Args:
    distance: int array of any shape.
    buckets: number of buckets.
    max_distance: distances from here on share the last bucket.
    bidirectional: half of the buckets serve keys after the query.

  Returns:
    int32 array of the same shape, in [0, buckets).
  """
  offset = 0
  if bidirectional:
    buckets //= 2
    offset = jnp.where(distance > 0, buckets, 0)
    distance = jnp.abs(distance)
  else:
    distance = jnp.maximum(-distance, 0)
  exact = buckets // 2
  ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact)
  large = exact + (
    ratio / math.log(max_distance / exact) * (buckets - exact)
  ).astype(jnp.int32)
  large = jnp.minimum(large, buckets - 1)
  return (offset + jnp.where(distance < exact, distance, large)).astype(
    jnp.int32
  )
