"""Tile sizes: what one program of each kernel works on."""

import dataclasses

# Rows of a tile that one warpgroup computes, those of one wgmma, and of both.
ROWS = 64
BLOCK = 2 * ROWS


@dataclasses.dataclass(frozen=True)
class Blocks:
  """How the three kernels walk; each owns 128 queries or keys.

  Attributes:
    forward_k: keys of a step of the forward pass, a multiple of 64.
    dq_k: keys of a step of the gradient of queries.
    dkv_q: queries of a step of the gradients of keys and values.
    stages: steps whose data is in shared memory or on its way, at least 2.
  """

  forward_k: int = 128
  dq_k: int = 64
  dkv_q: int = 64
  stages: int = 2

  def __post_init__(self):
    for size in (self.forward_k, self.dq_k, self.dkv_q):
      if size < 64 or size % 64:
        raise ValueError(f"blocks must be multiples of 64: {self}")
    if self.stages < 2:
      raise ValueError(f"a pipeline needs two stages: {self}")


def default(head_dim: int, value_dim: int, slopes: bool) -> Blocks:
  """Tiles for an H200 by what fits into registers; not measured.

  None spills in any case that `testing.cases` holds.
  """
  if max(head_dim, value_dim) <= 64:
    return Blocks(forward_k=128, dq_k=64 if slopes else 128, stages=4)
  return Blocks(forward_k=128, stages=2)
