"""Score biases that say what they are, so that kernels need no dense array.

Each is a pytree with `dense(query_index, key_index) -> [1 or batch, 1 or
heads, queries, keys]`, the specification of what it adds to the scores, in
float32 or wider where it is computed. Both indices count up by one; queries
may start anywhere among the keys. All are differentiable in every floating
field.

What a bias holds per distance is told as a vector over `j - i + queries - 1`,
for query i and key j counted from the first of the call: its length is
queries + keys - 1.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np


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

  def toeplitz(self, queries: int, keys: int, query_offset=0):
    """The same as a bias by distance; its gradient reaches the table."""
    distance = jnp.arange(queries + keys - 1) - (queries - 1) - query_offset
    bucket = relative_bucket(
      distance,
      buckets=self.table.shape[0],
      max_distance=self.max_distance,
      bidirectional=self.bidirectional,
    )
    return Toeplitz(self.table[bucket].T)

  def dense(self, query_index, key_index):
    """[1, heads, queries, keys]."""
    by_distance = self.toeplitz(
      query_index.shape[0], key_index.shape[0], query_index[0] - key_index[0]
    )
    return by_distance.dense(query_index, key_index)


@_pytree
class Toeplitz:
  """A value per head and distance of key and query.

  Attributes:
    values: [heads, queries + keys - 1] floating, at j - i + queries - 1.
  """

  values: jax.Array

  def dense(self, query_index, key_index):
    """[1, heads, queries, keys]."""
    queries, keys = query_index.shape[0], key_index.shape[0]
    heads = self.values.shape[0]
    check_distances("Toeplitz", self.values.shape[1], queries, keys)
    rows = (heads, queries, queries + keys - 1)
    place = jnp.arange(keys)[None] - jnp.arange(queries)[:, None] + queries - 1
    return jax.lax.platform_dependent(
      _wide(self.values)[None],
      tpu=lambda values: values[:, :, place],  # see `skew`
      default=lambda values: skew(jnp.broadcast_to(values[0][:, None], rows))[
        None
      ],
    )


@_pytree
class Untied:
  """Dot products of positions, apart from those of words (TUPE).

  Ke et al., arXiv:2006.15595, equation 7. One vector per token, so that
  packed documents count from their own starts.

  Attributes:
    query: [1 or batch, queries, heads, dim] floating, with the factor that
      the products need (1 / sqrt(2 dim)) in it: attention's `scale` is not
      applied. Best left in float32: kernels divide it by `scale` and then
      round it to the query's dtype, once.
    key: [1 or batch, keys, heads, dim] floating.
  """

  query: jax.Array
  key: jax.Array

  def dense(self, query_index, key_index):
    """[1 or batch, heads, queries, keys]."""
    del query_index, key_index
    dtype = jnp.promote_types(self.query.dtype, self.key.dtype)
    rows = max(self.query.shape[0], self.key.shape[0])
    query, key = (
      jnp.broadcast_to(x, (rows, *x.shape[1:])).astype(dtype)
      for x in (self.query, self.key)
    )
    return jnp.einsum(
      "bqhd,bkhd->bhqk",
      query,
      key,
      preferred_element_type=jnp.promote_types(dtype, jnp.float32),
    )


@_pytree
class Reset:
  """Gives first tokens ([CLS]) positional scores of their own (TUPE).

  Ke et al., arXiv:2006.15595, equation 10. The bias inside is replaced, not
  added to.

  Attributes:
    bias: what holds between other tokens, or None.
    theta: [2, heads] floating: scores of a first token towards any, and of
      others towards a first token.
    query_first: [1 or batch, queries] bool or int, set at first tokens.
    key_first: [1 or batch, keys] bool or int.
  """

  bias: object
  theta: jax.Array
  query_first: jax.Array
  key_first: jax.Array

  def dense(self, query_index, key_index):
    """[1 or batch, heads, queries, keys]."""
    theta = _wide(self.theta)[:, None, :, None, None]
    inner = jnp.zeros((1, 1, 1, 1), theta.dtype)
    if self.bias is not None:
      inner = self.bias.dense(query_index, key_index)
    at_query = (self.query_first != 0)[:, None, :, None]
    at_key = (self.key_first != 0)[:, None, None, :]
    return jnp.where(at_query, theta[0], jnp.where(at_key, theta[1], inner))


@_pytree
class Disentangled:
  """Content to position and position to content scores (DeBERTa).

  He et al., arXiv:2006.03654, equation 4. Either term may be None. What each
  token says to each bucket of distances comes from outside, so that it may
  share projections with the contents; it carries its own scale.

  Attributes:
    c2p: [batch, queries, heads, buckets] floating, or None.
    p2c: [batch, keys, heads, buckets] floating, or None.
    c2p_buckets: [queries + keys - 1] int32, the bucket that query i reads
      for key j, at j - i + queries - 1; see `disentangled_buckets`.
    p2c_buckets: [queries + keys - 1] int32, the bucket that key j reads for
      query i, at the same place.
  """

  c2p: jax.Array | None
  p2c: jax.Array | None
  c2p_buckets: jax.Array | None
  p2c_buckets: jax.Array | None

  def dense(self, query_index, key_index):
    """[batch, heads, queries, keys]."""
    queries, keys = query_index.shape[0], key_index.shape[0]
    total = jnp.zeros((1, 1, 1, 1), jnp.float32)
    if self.c2p is not None:
      check_distances("c2p", self.c2p_buckets.shape[0], queries, keys)
      by_query = jnp.moveaxis(_wide(self.c2p), 1, 2)
      total += skew(jnp.take(by_query, self.c2p_buckets, axis=3))
    if self.p2c is not None:
      check_distances("p2c", self.p2c_buckets.shape[0], queries, keys)
      by_key = jnp.moveaxis(_wide(self.p2c), 1, 2)
      # Seen from a key, distances of the queries count the other way.
      found = skew(jnp.take(by_key, self.p2c_buckets[::-1], axis=3))
      total += jnp.swapaxes(found, 2, 3)
    return total


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


def skew(rows):
  """out[..., i, j] = rows[..., i, j - i + queries - 1].

  Slices and reshapes alone, so that the gradient is no scatter; but a gather on
  TPUs, whose compiler takes minutes over such reshapes.

  Args:
    rows: [..., queries, queries + keys - 1].

  Returns:
    [..., queries, keys].
  """
  if rows.shape[-2] == 1:
    return rows
  return jax.lax.platform_dependent(rows, tpu=_gathered, default=_reshaped)


def _gathered(rows):
  queries, distances = rows.shape[-2:]
  i = jax.lax.broadcasted_iota(jnp.int32, (queries, distances - queries + 1), 0)
  j = jax.lax.broadcasted_iota(jnp.int32, i.shape, 1)
  place = jnp.broadcast_to(j - i + queries - 1, (*rows.shape[:-1], i.shape[1]))
  return jnp.take_along_axis(rows, place, axis=-1, mode="clip")


def _reshaped(rows):
  *batch, queries, distances = rows.shape
  keys = distances - queries + 1
  # Without the first queries - 1 numbers, a row begins distances - 1 after
  # the one before.
  flat = rows.reshape(*batch, queries * distances)[..., queries - 1 : -1]
  return flat.reshape(*batch, queries, distances - 1)[..., :keys]


def check_distances(what: str, found: int, queries: int, keys: int) -> None:
  """Raises ValueError where a vector by distance has the wrong length."""
  if found != queries + keys - 1:
    raise ValueError(
      f"{what} has {found} distances; {queries} queries and {keys} keys need "
      f"{queries + keys - 1}"
    )


def _wide(x):
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


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


def disentangled_buckets(
  queries: int,
  keys: int,
  *,
  span: int,
  buckets: int | None = None,
  max_distance: int | None = None,
  query_offset: int = 0,
  swapped: bool = False,
) -> np.ndarray:
  """DeBERTa's rows of its table of 2 * span relative positions.

  Args:
    queries: number of queries.
    keys: number of keys.
    span: rows of the table to each side of distance 0.
    buckets: distances up to half of it have rows of their own, longer ones
      share rows logarithmically (v2, v3: 256); None for none that do (v1).
    max_distance: where the logarithm ends (512); needed with `buckets`.
    query_offset: place of the first query among the keys.
    swapped: key - query in place of query - key. The paper reads p2c so, the
      released code does not.

  Returns:
    [queries + keys - 1] int32 in [0, 2 * span), at j - i + queries - 1.
  """
  distance = queries - 1 + query_offset - np.arange(queries + keys - 1)
  if swapped:
    distance = -distance
  if buckets is not None:
    distance = log_bucket(distance, buckets=buckets, max_distance=max_distance)
  return np.clip(distance + span, 0, 2 * span - 1).astype(np.int32)


def log_bucket(distance, *, buckets: int, max_distance: int) -> np.ndarray:
  """DeBERTa v2's signed bucket: exact to buckets // 2, then logarithmic.

  Args:
    distance: int array of any shape, query - key.
    buckets: twice the distance up to which each has its own.
    max_distance: one more than the longest distance that is told apart.
  """
  middle, longest = buckets // 2, max_distance - 1
  away = np.minimum(np.abs(distance), longest)
  ratio = np.log(np.maximum(away, middle) / middle) / np.log(longest / middle)
  far = np.ceil(ratio * (middle - 1)) + middle
  return (np.sign(distance) * np.where(away <= middle, away, far)).astype(
    np.int32
  )
