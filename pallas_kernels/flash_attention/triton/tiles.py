"""Where a tile lies, and masked loads of what belongs to it.

A tile is two sides, its queries and its keys. A kernel keeps the side it owns
and loads the other in its loop. Terms are written once for both orientations:
`over_queries` and `over_keys` spread a vector along the right axis.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton as pltriton

from pallas_kernels.flash_attention.triton.problem import Problem, padded


@dataclasses.dataclass(frozen=True)
class Side:
  """The queries or the keys of a tile.

  Attributes:
    length: how many there are in the row.
    index: [block] int32, may lie past the end.
    inside: [block] bool, or None where all are inside.
    segments: [block] int32, 0 past the end; None where not needed.
    first: [block] bool, first token of a document; None where not needed.
    hash: [block] uint32, of dropout; None where not needed.
  """

  length: int
  index: jax.Array
  inside: jax.Array | None
  segments: jax.Array | None = None
  first: jax.Array | None = None
  hash: jax.Array | None = None

  @property
  def safe(self):
    """`index`, the end instead of what lies past it."""
    if self.inside is None:
      return self.index
    return jnp.minimum(self.index, self.length - 1)

  @property
  def real(self):
    """[block] bool, False past the end and in padding; None where all are."""
    return self.inside if self.segments is None else self.segments > 0

  def vector(self, ref, *leading):
    """ref[*leading, index], 0 past the end."""
    return _load(ref.at[(*leading, self.index)], self.inside)

  def matrix(self, ref, batch, head, *, clean=True):
    """[block, channels padded] of ref [batch, length, heads, channels].

    Padded channels are 0, and so are rows that are not `real` if `clean`.
    """
    where, mask = self._place(ref, batch, head)
    real = self.real if clean else self.inside
    return _load(where, _both(mask, None if real is None else real[:, None]))

  def store(self, ref, batch, head, value):
    """Writes a matrix's rows that are inside."""
    where, mask = self._place(ref, batch, head)
    inside = None if self.inside is None else self.inside[:, None]
    pltriton.store(where, value.astype(ref.dtype), mask=_both(mask, inside))

  def store_vector(self, ref, *leading, value):
    """ref[*leading, index] = value where inside."""
    pltriton.store(ref.at[(*leading, self.index)], value, mask=self.inside)

  def _place(self, ref, batch, head):
    channels = ref.shape[-1]
    channel = jnp.arange(padded(channels), dtype=jnp.int32)[None, :]
    where = ref.at[batch, self.index[:, None], head, channel]
    return where, None if padded(channels) == channels else channel < channels


def _both(first, second):
  if first is None or second is None:
    return second if first is None else first
  return first & second


def _load(where, mask):
  """Reads where the mask is set (None: everywhere), 0 elsewhere."""
  if mask is None:
    return pltriton.load(where)
  zero = jnp.zeros((), where.dtype)
  return pltriton.load(
    where, mask=jnp.broadcast_to(mask, where.shape), other=zero
  )


def _side(length, size, block):
  index = block * size + jnp.arange(size, dtype=jnp.int32)
  return Side(length, index, None if length % size == 0 else index < length)


def of_batch(ref, batch):
  """The index of a row in an array that may have but one for all."""
  return batch if ref.shape[0] > 1 else 0


def queries(problem: Problem, refs, batch, head, block, *, masked=True) -> Side:
  """A block of queries; `masked` where visibility will be asked for."""
  side = _side(problem.queries, problem.launch.block_q, block)
  return _fill(
    side,
    refs,
    batch,
    segments="query_segments" if masked else None,
    first="query_first",
    hash=side.vector(refs["row_hash"], batch, head)
    if "row_hash" in refs
    else None,
  )


def keys(problem: Problem, refs, batch, block, *, masked=True) -> Side:
  """A block of keys; `masked` where visibility will be asked for."""
  side = _side(problem.keys, problem.launch.block_k, block)
  return _fill(
    side,
    refs,
    batch,
    segments="key_segments" if masked else None,
    first="key_first",
    hash=side.index.astype(jnp.uint32) + refs["column_seed"][0]
    if "column_seed" in refs
    else None,
  )


def _fill(side, refs, batch, *, segments, first, hash):
  def vector(name):
    return side.vector(refs[name], of_batch(refs[name], batch))

  return dataclasses.replace(
    side,
    segments=vector(segments) if segments in refs else None,
    first=vector(first) > 0 if first in refs else None,
    hash=hash,
  )


@dataclasses.dataclass(frozen=True)
class Tile:
  """One tile of scores: [queries, keys], or [keys, queries] if transposed.

  Attributes:
    problem: the call.
    batch: row.
    head: head of the queries.
    queries: one side.
    keys: the other.
    transposed: orientation.
  """

  problem: Problem
  batch: jax.Array
  head: jax.Array
  queries: Side
  keys: Side
  transposed: bool = False

  @property
  def shape(self):
    """Rows and columns."""
    launch = self.problem.launch
    shape = (launch.block_q, launch.block_k)
    return shape[::-1] if self.transposed else shape

  def over_queries(self, vector):
    """A value a query, spread for the tile."""
    return vector[None, :] if self.transposed else vector[:, None]

  def over_keys(self, vector):
    """A value a key, spread for the tile."""
    return vector[:, None] if self.transposed else vector[None, :]

  def distance(self):
    """Key minus query index, as [0, queries + keys - 1) with queries - 1."""
    return self.over_keys(self.keys.safe) - self.over_queries(self.queries.safe)

  def reset(self):
    """Which elements theta stands for."""
    q = self.over_queries(self.queries.first)
    return jnp.broadcast_to(q | self.over_keys(self.keys.first), self.shape)

  def inside(self):
    """Which elements exist; None where all do."""
    sides = self.queries.inside, self.keys.inside
    q = None if sides[0] is None else self.over_queries(sides[0])
    k = None if sides[1] is None else self.over_keys(sides[1])
    return _both(q, k)

  def visible(self):
    """Which elements are seen; None where nothing is hidden."""
    static, rules = self.problem.static, None
    if self.queries.segments is None:
      rules = self.inside()
    else:  # 0, hence invisible, past the end
      same = self.over_queries(self.queries.segments) == self.over_keys(
        self.keys.segments
      )
      rules = same & self.over_keys(self.keys.segments > 0)
    if static.causal or static.window is not None:
      away = self.over_keys(self.keys.index) - self.over_queries(
        self.queries.index + static.query_offset
      )
    if static.causal:
      rules = _both(rules, away <= 0)
    if static.window is not None:
      before, after = static.window
      rules = _both(rules, (away >= -before) & (away <= after))
    return rules
