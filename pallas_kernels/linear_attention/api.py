"""The one linear attention op, and the choice of what computes it."""

import jax.numpy as jnp

from pallas_kernels import _dispatch, _platform
from pallas_kernels.linear_attention import chunked, reference

_OP = "linear_attention"
_HERE = "pallas_kernels.linear_attention"
_IMPLEMENTATIONS = {
  "reference": reference.linear_attention,
  "chunked": chunked.linear_attention,
  "triton": f"{_HERE}.triton:linear_attention",
  "mosaic_tpu": f"{_HERE}.mosaic_tpu:linear_attention",
}
# What a kernel's tile sizes are kept in.
_TILES = {
  "triton": f"{_HERE}.triton:Blocks",
  "mosaic_tpu": f"{_HERE}.mosaic_tpu:Tiles",
}


def implementations() -> tuple[str, ...]:
  """Names that `implementation` may take."""
  return _dispatch.names(_IMPLEMENTATIONS)


def linear_attention(
  query_features,
  key_features,
  value,
  *,
  causal=False,
  segments=None,
  epsilon=1e-12,
  implementation=None,
  chunk=None,
):
  """out_i = sum_j (q_i . k_j) v_j / (sum_j q_i . k_j + epsilon).

  The sums run over the keys j that query i sees, q and k are features that a
  map made of queries and keys already (Katharopoulos et al.,
  arXiv:2006.16236; Hedgehog, arXiv:2402.04347). Sums are float32 or wider. A
  query that sees no key gives 0; padding may hold anything, also NaN.

  Args:
    query_features: [batch, length, heads, features], not negative.
    key_features: [batch, length, heads, features], not negative.
    value: [batch, length, heads, head_dim].
    causal: hide keys after the query.
    segments: [batch, length] integer or None, where all see all. A query sees
      keys of its own segment; segment 0 is padding. A segment lies in one
      piece but for padding: 'reference' alone also knows others.
    epsilon: keeps a denominator of 0 from dividing.
    implementation: a name of `implementations()`; None picks by table.
    chunk: positions that 'chunked' handles at a time; None for its own.

  Returns:
    [batch, length, heads, head_dim] in value's dtype.

  Raises:
    ValueError: shapes that do not fit; a chunk for another implementation.
    NotImplementedError: the named implementation cannot do this.
  """
  _check(query_features, key_features, value, segments)
  arrays = (query_features, key_features, value)
  case = case_of(value, causal=causal, segments=segments)
  device = _platform.target(arrays)
  choice = _dispatch.select(implementation, case, device, _IMPLEMENTATIONS)
  options = {}
  if chunk is not None:
    if choice.implementation != "chunked" or chunk < 1:
      raise ValueError(
        f"chunk {chunk} with '{choice.implementation}': 'chunked' takes one, "
        "of 1 or more"
      )
    options["chunk"] = chunk
  run = _IMPLEMENTATIONS[choice.implementation]
  if choice.implementation in _TILES:
    run = _dispatch.load_backend(run)
    if choice.blocks is not None:
      tiles = _dispatch.load_backend(_TILES[choice.implementation])
      options["blocks"] = _dispatch.from_plain(tiles, choice.blocks)
    options["interpret"] = choice.interpret
  out = run(
    *arrays, causal=causal, segments=segments, epsilon=epsilon, **options
  )
  return out.astype(value.dtype)


def case_of(value, *, causal=False, segments=None) -> _dispatch.Case:
  """What the choice depends on."""
  batch, length, heads, head_dim = value.shape
  wide = jnp.promote_types(value.dtype, jnp.float32).itemsize
  asked = {"causal": causal, "segments": segments is not None}
  return _dispatch.Case(
    op=_OP,
    dtype=jnp.dtype(value.dtype).name,
    width=head_dim,
    length=length,
    features=frozenset(name for name, wanted in asked.items() if wanted),
    bytes=batch * heads * length**2 * wide,
  )


def _check(query, key, value, segments):
  if (
    value.ndim != 4
    or query.shape != key.shape
    or query.shape[:3] != value.shape[:3]
  ):
    raise ValueError(
      f"features {query.shape} and {key.shape}, value {value.shape}: all must "
      "be [batch, length, heads, ..], the features of one shape"
    )
  if segments is not None and segments.shape != value.shape[:2]:
    raise ValueError(
      f"segments {segments.shape} are not [batch, length] {value.shape[:2]}"
    )
