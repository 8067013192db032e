"""What surrounds hidden spans: features of SpanBERT's boundary objective.

Joshi et al., arXiv:1907.10529, section 3.2. A span is a run of hidden tokens;
spans that touch are one. Both of its neighbours must be tokens of its own
document: spans at its edges have none.
"""

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _rows


def features(hidden, rows, places, counts, longest: int):
  """Where the neighbours of each prediction's span lie.

  Args:
    hidden: bool [batch, length].
    rows: `_selectors.Rows`.
    places, counts: int32 and bool [batch, p], what is predicted, and which of
      them count.
    longest: tokens of a span that are predicted; the others have weight 0.

  Returns:
    boundary_positions [batch, p, 2], left and right neighbour;
    boundary_offsets [batch, p], from 0 at the span's first token;
    boundary_weights float32 [batch, p].
  """
  length = hidden.shape[1]
  here = tf.range(length)[None, :]
  left = _rows.running_max(tf.where(hidden, 0, here + 1)) - 1
  back = tf.reverse(tf.where(hidden, 0, length - here), [1])
  right = length - tf.reverse(_rows.running_max(back), [1])
  segment = tf.gather(rows.segments, places, batch_dims=1)
  counts &= tf.gather(hidden, places, batch_dims=1)
  ends = []
  for neighbours in (left, right):
    end = tf.gather(neighbours, places, batch_dims=1)
    counts &= (end >= 0) & (end < length)
    end = tf.clip_by_value(end, 0, length - 1)
    counts &= tf.gather(rows.selectable, end, batch_dims=1)
    counts &= tf.gather(rows.segments, end, batch_dims=1) == segment
    ends.append(end)
  offset = places - ends[0] - 1
  counts &= offset < longest
  return {
    "boundary_positions": tf.where(
      counts[:, :, None], tf.stack(ends, axis=2), 0
    ),
    "boundary_offsets": tf.where(counts, offset, 0),
    "boundary_weights": tf.cast(counts, tf.float32),
  }
