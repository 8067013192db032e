"""The one attention op, and the choice of what computes it.

A backend in XLA's terms is a function with the arguments of
`reference.attention`. A kernel is a module with `attend(static, operands) ->
out`, made by `differentiable.differentiable`, which raises
NotImplementedError with the reason for what it cannot compute, and with
`Blocks`, a frozen dataclass of its tile sizes.
"""

import dataclasses
import importlib
import math

import numpy as np

from pallas_kernels import _dispatch, _platform
from pallas_kernels.flash_attention import bias as biases
from pallas_kernels.flash_attention import operands as operands_lib
from pallas_kernels.flash_attention import sharded

_OP = "flash_attention"
_HERE = "pallas_kernels.flash_attention"
_XLA = {
  "reference": f"{_HERE}.reference:attention",
  "chunked": f"{_HERE}.chunked:attention",
  "cudnn": f"{_HERE}.cudnn:attention",
}
_KERNELS = {
  "triton": f"{_HERE}.triton:attend",
  "mosaic_gpu": f"{_HERE}.mosaic_gpu:attend",
  "mosaic_tpu": f"{_HERE}.mosaic_tpu:attend",
}
_BACKENDS = {**_XLA, **_KERNELS}
# Complete: they compute whatever can be asked for.
_COMPLETE = ("reference", "chunked")


def implementations() -> tuple[str, ...]:
  """Names that `implementation` may take.

  A kernel's name with ':interpret' after it runs it in Pallas' interpreter on
  any device: slow, for tests.
  """
  return _dispatch.names(_BACKENDS)


def check_name(implementation: str | None) -> None:
  """Raises NotImplementedError, with the nearest names, if it is unknown."""
  if implementation is not None:
    _dispatch.parse(_OP, implementation, _BACKENDS)


def choose(
  platform: str | None = None,
  kind: str | None = None,
  *,
  dtype="bfloat16",
  head_dim: int = 64,
  length: int = 512,
  batch: int = 1,
  heads: int = 1,
  features=(),
) -> tuple[str, str]:
  """The implementation that runs where none is named, and why.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'; what is compiled for here where None.
    kind: jax's `device_kind`, such as 'NVIDIA H200'.
    dtype: of query, key and value.
    head_dim: channels of a head.
    length: of queries and keys.
    batch: rows on one device.
    heads: on one device.
    features: names of what is asked for, see `features_of`.
  """
  device = _platform.device(platform, kind) if platform else _platform.target()
  case = _dispatch.Case(
    op=_OP,
    dtype=np.dtype(dtype).name,
    width=head_dim,
    length=length,
    features=frozenset(features),
    bytes=4 * batch * heads * length * length,
  )
  choice = _dispatch.pick(case, device, _BACKENDS)
  return choice.implementation, choice.reason


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

  Softmax runs in float32 (or wider); a query that sees no key gives 0. Under
  a mesh rows are split over all of its axes but `tensor` (or `model`), which
  splits heads.

  Args:
    query: [batch, queries, heads, head_dim].
    key: [batch, keys, key_heads, head_dim]; key_heads divides heads.
    value: [batch, keys, key_heads, value_dim].
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
    implementation: a name of `implementations()`; None picks by table, see
      `choose`.
    with_probabilities: also return the probabilities before dropout.

  Returns:
    [batch, queries, heads, value_dim] in query's dtype, or with
    `with_probabilities` also [batch, heads, queries, keys].

  Raises:
    ValueError: shapes that do not fit, a dropout rate out of range or
      without its key.
    NotImplementedError: the named implementation is unknown, or cannot do
      this here; the message says why.
  """
  _check(query, key, value, segments, key_segments, dropout_rate, dropout_key)
  arguments = dict(
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
  )
  case = case_of(
    query, key, value, **arguments, with_probabilities=with_probabilities
  )
  device = _platform.target((query, key, value))
  choice = _dispatch.select(implementation, case, device, _BACKENDS)
  inputs = (query, key, value)
  try:
    return _run(choice, inputs, arguments, with_probabilities)
  except NotImplementedError:
    if implementation is not None or choice.implementation in _COMPLETE:
      raise
  # A table speaks of buckets of cases; what it chose refused this one.
  choice = _dispatch.pick(case, device, _COMPLETE)
  return _run(choice, inputs, arguments, with_probabilities)


def case_of(
  query,
  key,
  value,
  *,
  bias=None,
  query_segments=None,
  query_offset=0,
  causal=False,
  window=None,
  soft_cap=None,
  dropout_rate=0.0,
  with_probabilities=False,
  **unused,
) -> _dispatch.Case:
  """What a choice depends on, of the arguments of a call (or of shapes)."""
  del unused
  batch, queries, heads, head_dim = query.shape
  mesh = _platform.mesh_of((query, key, value))
  parts = 1
  if mesh is not None and sharded.free_axes(mesh):
    parts = sharded.divided(mesh, batch, heads)
  said = {
    "causal": causal,
    "window": window is not None,
    "segments": query_segments is not None,
    "soft_cap": soft_cap is not None,
    "dropout": dropout_rate > 0.0,
    "shared_heads": key.shape[2] != heads,
    "value_dim": value.shape[3] != head_dim,
    "cross": key.shape[1] != queries,
    "offset": not isinstance(query_offset, int) or query_offset != 0,
    "probabilities": with_probabilities,
  }
  features = {name for name, wanted in said.items() if wanted}
  return _dispatch.Case(
    op=_OP,
    dtype=np.dtype(query.dtype).name,
    width=head_dim,
    length=key.shape[1],
    features=frozenset(features | _bias_features(bias)),
    bytes=4 * batch * heads * queries * key.shape[1] // parts,
  )


def _bias_features(bias) -> set[str]:
  """{'reset', 'alibi', 'dense_shared'} of a sum of such biases."""
  if bias is None:
    return set()
  if isinstance(bias, biases.Sum):
    return set().union(*map(_bias_features, bias.terms))
  if isinstance(bias, biases.Reset):
    return {"reset"} | _bias_features(bias.bias)
  name = type(bias).__name__.lower()
  if isinstance(bias, biases.Dense) and bias.array.shape[0] == 1:
    name = "dense_shared"
  return {name}


def _run(choice, inputs, arguments, with_probabilities):
  name = choice.implementation
  if name in _COMPLETE:
    arguments["with_probabilities"] = with_probabilities
  elif with_probabilities:
    raise NotImplementedError(
      f"{_OP}: '{name}' keeps no probabilities; reference and chunked do"
    )
  backend = _dispatch.load_backend(_BACKENDS[name])
  if name in _XLA:
    return backend(*inputs, **arguments)
  if not isinstance(arguments["query_offset"], int | np.integer):
    raise NotImplementedError(
      f"{_OP}: '{name}' needs a query_offset that is known when it is "
      "compiled; decoding step by step runs on reference"
    )
  static, operands = operands_lib.lower(*inputs, **arguments)
  blocks = None
  if choice.blocks is not None:
    module = importlib.import_module(_BACKENDS[name].partition(":")[0])
    blocks = _dispatch.from_plain(module.Blocks, choice.blocks)
  static = dataclasses.replace(
    static, blocks=blocks, interpret=choice.interpret
  )
  return sharded.attend(backend, static, operands)


def _check(
  query, key, value, segments, key_segments, dropout_rate, dropout_key
):
  fits = (
    query.shape[0] == key.shape[0]
    and query.shape[3] == key.shape[3]
    and query.shape[2] % key.shape[2] == 0
    and key.shape[:3] == value.shape[:3]
  )
  if not fits:
    raise ValueError(
      f"query {query.shape}, key {key.shape} and value {value.shape}: key and "
      "value must have one shape but for the last axis, key's last axis must "
      "be query's, and its heads must divide the query's"
    )
  if not 0.0 <= dropout_rate < 1.0:
    raise ValueError(f"dropout_rate {dropout_rate} is not in [0, 1)")
  if dropout_rate > 0.0 and dropout_key is None:
    raise ValueError(f"dropout_rate {dropout_rate} needs a dropout_key")
  if segments is None and key_segments is not None:
    raise ValueError("key_segments need segments for the queries too")
