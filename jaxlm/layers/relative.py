"""DeBERTa's table of distances, as it passes from positions to mixers."""

import flax.struct

from jaxlm.types import Array
from pallas_kernels.flash_attention import bias

RELATIVE = "relative_positions"


@flax.struct.dataclass
class RelativeTable:
  """A row for each bucket of distances.

  Attributes:
    rows: [2 * span, width]; row span is distance 0.
    buckets: see `DisentangledPositions` (static).
    max_distance: likewise (static).
  """

  rows: Array
  buckets: int = flax.struct.field(pytree_node=False)
  max_distance: int = flax.struct.field(pytree_node=False)

  def reached(self, queries: int, keys: int):
    """The rows that distances of so many queries and keys reach.

    Returns:
      rows [reached, width]; and the place among them of query - key and of
      key - query, both [queries + keys - 1] int32 at
      key - query + queries - 1, numpy.
    """
    first, second = (
      bias.disentangled_buckets(
        queries,
        keys,
        span=self.rows.shape[0] // 2,
        buckets=self.buckets or None,
        max_distance=self.max_distance,
        swapped=swapped,
      )
      for swapped in (False, True)
    )
    low = min(first.min(), second.min())
    high = max(first.max(), second.max())
    return self.rows[low : high + 1], first - low, second - low
