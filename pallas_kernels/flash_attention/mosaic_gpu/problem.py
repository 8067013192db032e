"""What is known of one call when its kernels are traced, and their inputs."""

import dataclasses

import jax
import jax.numpy as jnp

from pallas_kernels.flash_attention import masks
from pallas_kernels.flash_attention.mosaic_gpu.blocks import (
  BLOCK,
  Blocks,
  default,
)
from pallas_kernels.flash_attention.mosaic_gpu.machine import LOG2E, Machine
from pallas_kernels.flash_attention.operands import Operands, Static


@dataclasses.dataclass(frozen=True)
class Problem:
  """Shapes and options of one call.

  Attributes:
    static: options of the call.
    blocks: tile sizes.
    batch: rows.
    queries: queries a row.
    keys: keys a row.
    heads: heads of the queries.
    key_heads: heads of keys and values.
    head_dim: channels of query and key.
    value_dim: channels of value.
    dtype: of query, key and value.
    segments: whether there are segment ids.
    slopes: whether there is ALiBi.
  """

  static: Static
  blocks: Blocks
  batch: int
  queries: int
  keys: int
  heads: int
  key_heads: int
  head_dim: int
  value_dim: int
  dtype: jnp.dtype
  segments: bool
  slopes: bool

  @property
  def machine(self) -> Machine:
    """Where the kernels run."""
    return Machine(self.static.interpret)

  @property
  def group(self) -> int:
    """Heads of queries that share a head of keys."""
    return self.heads // self.key_heads

  @property
  def factor(self) -> float:
    """What makes dot products logarithms to base 2."""
    return self.static.scale * LOG2E

  @property
  def has_rules(self) -> bool:
    """Whether some keys are hidden from some queries."""
    hides = self.static.causal or self.static.window is not None
    return hides or self.segments

  def ranges(self, of, block: int, operands: Operands) -> dict:
    """{'ranges': [batch, blocks, 4] int32} of blocks to visit.

    Args:
      of: 'keys' for each 128 queries or 'queries' for each 128 keys.
      block: size of the blocks that are visited.
      operands: hold the segment ids.
    """
    if not self.has_rules:
      return {}
    function = masks.key_ranges if of == "keys" else masks.query_ranges
    sizes = (BLOCK, block) if of == "keys" else (block, BLOCK)
    ranges = function(
      batch=self.batch,
      queries=self.queries,
      keys=self.keys,
      block_q=sizes[0],
      block_k=sizes[1],
      query_segments=operands.query_segments,
      key_segments=operands.key_segments,
      causal=self.static.causal,
      window=self.static.window,
      query_offset=self.static.query_offset,
    )
    return {"ranges": ranges}

  def bounds(self, refs: dict, batch, owned, length: int, block: int):
    """(low, full_low, full_high, high): which blocks a program visits."""
    if self.has_rules:
      return tuple(refs["ranges"][batch, owned, n] for n in range(4))
    return 0, 0, length // block, -(-length // block)

  def id_inputs(self, operands: Operands, q_block: int, k_block: int) -> dict:
    """Segment ids as kernels compare them, padded to whole blocks.

    What sees nothing and what is never seen differ, so that a key is seen
    where its id is the query's.
    """
    if not self.segments:
      return {}
    q, k = operands.query_segments, operands.key_segments
    q = pad(jnp.where(q > 0, q, -1), q_block, -1)
    return {"q_ids": q, "k_ids": pad(jnp.where(k > 0, k, 0), k_block)}


def describe(static: Static, operands: Operands) -> Problem:
  """The problem of a call."""
  batch, queries, heads, head_dim = operands.query.shape
  _, keys, key_heads, value_dim = operands.value.shape
  return Problem(
    static=static,
    blocks=static.blocks
    or default(head_dim, value_dim, operands.slopes is not None),
    batch=batch,
    queries=queries,
    keys=keys,
    heads=heads,
    key_heads=key_heads,
    head_dim=head_dim,
    value_dim=value_dim,
    dtype=operands.query.dtype,
    segments=operands.query_segments is not None,
    slopes=operands.slopes is not None,
  )


def pad(x, block: int, value=0, axis: int = 1):
  """x with `axis` made a multiple of block."""
  short = -x.shape[axis] % block
  if not short:
    return x
  widths = [(0, short if n == axis else 0) for n in range(x.ndim)]
  return jnp.pad(x, widths, constant_values=value)


def clean(x, segments):
  """x [batch, length, heads, channels], 0 at padding: there may be NaN."""
  if segments is None:
    return x
  return jnp.where((segments > 0)[:, :, None, None], x, 0)


def whole(x, segments, block: int) -> jax.Array:
  """x without what stands at padding, its length a multiple of block."""
  return pad(clean(x, segments), block)
