"""The one attention op, and the choice of what computes it."""

import math

import jax

from pallas_kernels.flash_attention import reference

_IMPLEMENTATIONS = {"reference": reference.attention}


def implementations() -> tuple[str, ...]:
  """Names that `implementation` may take."""
  return tuple(_IMPLEMENTATIONS)


def choose(platform: str | None = None) -> tuple[str, str]:
  """The implementation that runs where none is named, and why.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'; the default backend's where None.
  """
  platform = platform or jax.default_backend()
  return "reference", f"XLA's own code is the only path on {platform} so far"


def flash_attention(
  query,
  key,
  value,
  *,
  bias=None,
  segments=None,
  key_segments=None,
  query_offset=0,
  causal=False,
  window=None,
  scale=None,
  soft_cap=None,
  dropout_rate=0.0,
  dropout_key=None,
  implementation=None,
  with_probabilities=False,
):
  """softmax(scale * query key^T + bias) value over the visible keys.

  Softmax runs in float32 (or wider); a query that sees no key gives 0.

  Args:
    query: [batch, queries, heads, head_dim].
    key: [batch, keys, key_heads, head_dim]; key_heads divides heads.
    value: [batch, keys, key_heads, head_dim].
    bias: a structured bias of `bias.py`, or None.
    segments: [batch, queries] int32, or None where all see all. A query sees
      keys of its own segment; segment 0 is padding and is never seen.
    key_segments: [batch, keys] int32; `segments` where None.
    query_offset: place of the first query among the keys (decoding).
    causal: hide keys after the query.
    window: (before, after), how many keys to each side are seen, or None.
    scale: factor of the scores; 1/sqrt(head_dim) where None.
    soft_cap: scores become cap * tanh(scores / cap), or None.
    dropout_rate: share of the probabilities set to 0, under 1.
    dropout_key: PRNG key, needed where dropout_rate > 0.
    implementation: a name of `implementations()`; None picks by `choose`.
    with_probabilities: also return the probabilities before dropout.

  Returns:
    [batch, queries, heads, head_dim] in query's dtype, or with
    `with_probabilities` also [batch, heads, queries, keys].

  Raises:
    ValueError: shapes that do not fit, a dropout rate out of range or
      without its key.
    NotImplementedError: the named implementation cannot do this.
  """
  if query.shape[2] % key.shape[2] or key.shape != value.shape:
    raise ValueError(
      f"query {query.shape}, key {key.shape} and value {value.shape}: key and "
      "value must have one shape, and its heads must divide the query's"
    )
  if not 0.0 <= dropout_rate < 1.0:
    raise ValueError(f"dropout_rate {dropout_rate} is not in [0, 1)")
  if dropout_rate > 0.0 and dropout_key is None:
    raise ValueError(f"dropout_rate {dropout_rate} needs a dropout_key")
  if segments is None and key_segments is not None:
    raise ValueError("key_segments need segments for the queries too")
  implementation = implementation or choose()[0]
  if implementation not in _IMPLEMENTATIONS:
    raise NotImplementedError(
      f"attention '{implementation}' is not one of "
      f"{', '.join(_IMPLEMENTATIONS)}"
    )
  return _IMPLEMENTATIONS[implementation](
    query,
    key,
    value,
    bias=bias,
    query_segments=segments,
    key_segments=segments if key_segments is None else key_segments,
    query_offset=query_offset,
    causal=causal,
    window=window,
    scale=1.0 / math.sqrt(query.shape[-1]) if scale is None else scale,
    soft_cap=soft_cap,
    dropout_rate=dropout_rate,
    dropout_key=dropout_key,
    with_probabilities=with_probabilities,
  )
