"""Tile sizes: what one program of each kernel works on."""

import dataclasses

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Launch:
  """How one kernel is cut.

  Attributes:
    block_q: queries of a tile, a power of two of at least 16.
    block_k: keys of a tile, a power of two of at least 16.
    num_warps: warps of a program.
    num_stages: loads in flight (Triton's software pipeline).
  """

  block_q: int
  block_k: int
  num_warps: int = 4
  num_stages: int = 2

  def __post_init__(self):
    for size in (self.block_q, self.block_k):
      if size < 16 or size & (size - 1):
        raise ValueError(f"blocks must be powers of two of at least 16: {self}")


@dataclasses.dataclass(frozen=True)
class Blocks:
  """How the four kernels are cut.

  Attributes:
    forward: output and log-sum-exp.
    dq: gradient of queries and of what belongs to a query.
    dkv: gradients of keys and values and of what belongs to a key.
    shared: gradient of what many heads or rows share; a square tile.
  """

  forward: Launch
  dq: Launch
  dkv: Launch
  shared: Launch

  def __post_init__(self):
    if self.shared.block_q != self.shared.block_k:
      raise ValueError(f"the shared kernel needs square tiles: {self.shared}")


def default(*, head_dim, dtype, terms, queries, keys, interpret) -> Blocks:
  """Tiles that compile without spills for Hopper; not measured.

  Compiled were all that `testing.cases` holds; not float32 of 256 channels
  beside terms.

  Args:
    head_dim: the wider of query's and value's, as padded.
    dtype: of the operands.
    terms: how many things scores and probabilities are made of beside the dot
      product; each takes registers.
    queries: number of queries; tiles are not much larger.
    keys: number of keys.
    interpret: small tiles, so that small tests have several.
  """
  if interpret:
    small = Launch(32, 32)
    blocks = Blocks(Launch(64, 32), Launch(32, 64), Launch(64, 32), small)
  else:
    blocks = _table(head_dim, dtype, terms)
  return Blocks(
    forward=_shrink(blocks.forward, queries, keys),
    dq=_shrink(blocks.dq, queries, keys),
    dkv=_shrink(blocks.dkv, queries, keys),
    shared=_shrink(blocks.shared, max(queries, keys), max(queries, keys)),
  )


def _table(head_dim, dtype, terms):
  if dtype == jnp.float32:  # without tensor cores
    return _float32(head_dim, terms)
  small, narrow = Launch(64, 64, 8, 1), Launch(32, 32, 8, 1)
  if head_dim <= 64:
    wide = Launch(128, 64, 8, 2) if terms else Launch(128, 128, 8, 2)
    both = Launch(64, 64, 8, 2)
    dkv = Launch(32, 64, 8, 2) if terms > 2 else both
    return Blocks(wide, both, dkv, both)
  if head_dim <= 128:
    if terms > 3:
      few, fewer = Launch(64, 32, 8, 1), Launch(16, 64, 8, 1)
      return Blocks(Launch(64, 64, 8, 1), few, fewer, narrow)
    dkv = Launch(32, 64, 8, 1) if terms else small
    return Blocks(Launch(128, 64, 8, 2), small, dkv, small)
  # Accumulators of dk and dv, and of dq beside many terms, leave no registers
  # for Hopper's instruction, which needs 64 rows: these run on Ampere's.
  if terms <= 2:
    wide = Launch(64, 32, 8, 2)
    return Blocks(wide, wide, narrow, small)
  return Blocks(Launch(64, 32, 8, 1), narrow, narrow, small)


def _float32(head_dim, terms):
  if head_dim <= 64:
    small = Launch(32, 32, 4, 1)
    return Blocks(Launch(64, 32, 8, 1), small, small, small)
  small = Launch(32, 32, 8, 1)
  if head_dim <= 128:
    tile = Launch(16, 16, 8, 1) if terms else small
    return Blocks(tile, tile, tile, small)
  return Blocks(small, Launch(32, 16, 8, 1), Launch(16, 32, 8, 1), small)


def _shrink(launch, queries, keys):
  """No tile much larger than what it has to cover."""
  return dataclasses.replace(
    launch,
    block_q=min(launch.block_q, _cover(queries)),
    block_k=min(launch.block_k, _cover(keys)),
  )


def _cover(length):
  return max(16, 1 << (length - 1).bit_length())
