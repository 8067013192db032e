"""The one dynamic convolution, and the choice of what computes it."""

import functools
import importlib

import jax.numpy as jnp
import numpy as np

from pallas_kernels import _dispatch, _platform
from pallas_kernels.dynamic_convolution import reference, sharded

_OP = "dynamic_convolution"
_HERE = "pallas_kernels.dynamic_convolution"
# A kernel's module has the op's function and `Tiles`, a frozen dataclass.
_BACKENDS = {
  "reference": f"{_HERE}.reference",
  "triton": f"{_HERE}.triton",
  "mosaic_tpu": f"{_HERE}.mosaic_tpu",
}


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
  features=(),
) -> tuple[str, str]:
  """The implementation that runs where none is named, and why.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'; what is compiled for here where None.
    kind: jax's `device_kind`, such as 'NVIDIA H200'.
    dtype: of values.
    head_dim: channels of a head.
    length: positions of a row.
    features: {'segments'} for packed rows.
  """
  device = _platform.device(platform, kind) if platform else _platform.target()
  case = _case(dtype, head_dim, length, features)
  choice = _dispatch.pick(case, device, _BACKENDS)
  return choice.implementation, choice.reason


def dynamic_convolution(
  values,
  logits,
  *,
  segments=None,
  implementation=None,
  blocks=None,
  interpret=False,
):
  """Convolution over the length with softmaxed taps of each position's own.

    out[b, t, h] = sum_k softmax(logits[b, t, h])[k]
                         * values[b, t + k - (width - 1) / 2, h]

  The dynamic convolution of ConvBERT (Jiang et al., arXiv:2008.02496; logits
  are its span-based kernels before their softmax, a head's taps adjacent).
  Values outside of the row, or of another segment, count as 0; the softmax
  runs over all taps nevertheless, as in ConvBERT at the ends of a row: a
  document in a packed row gets what it would get alone. Positions of segment
  0 (padding) give 0 and zero gradients, whatever they hold. Softmax and sums
  run in float32 (or wider). Under a mesh kernels split rows over all of its
  axes but `tensor` (or `model`), which splits heads.

  NaN or infinity at a position that is no padding reaches, in `reference`,
  the positions whose window holds it; kernels multiply whole bands, and there
  it may reach any position less than 128 away, also of other documents.

  Args:
    values: [batch, length, heads, head_dim] floating.
    logits: [batch, length, heads, width] floating, width odd.
    segments: [batch, length] integer, 0 is padding; None: one document a row.
    implementation: a name of `implementations()`; None picks by table, see
      `choose`.
    blocks: the kernel's own `Tiles`; None for those of the table, or defaults.
    interpret: run a kernel in Pallas' interpreter, as ':interpret' does.

  Returns:
    [batch, length, heads, head_dim] in the dtype of values.

  Raises:
    ValueError: shapes that do not fit, or an even width.
    NotImplementedError: the named implementation is unknown, or cannot do
      this here; the message says why.
  """
  _check(values, logits, segments)
  if interpret and implementation in _dispatch.INTERPRETABLE:
    implementation += _dispatch.INTERPRET
  features = () if segments is None else ("segments",)
  case = _case(values.dtype, values.shape[3], values.shape[1], features)
  device = _platform.target((values, logits))
  choice = _dispatch.select(implementation, case, device, _BACKENDS)
  if 0 in values.shape:
    return jnp.zeros_like(values)
  try:
    return _run(choice, blocks, values, logits, segments)
  except NotImplementedError:
    if implementation is not None:
      raise
  # A table speaks of buckets of cases; what it chose refused this one.
  return reference.dynamic_convolution(values, logits, segments=segments)


def _case(dtype, head_dim, length, features):
  return _dispatch.Case(
    op=_OP,
    dtype=np.dtype(dtype).name,
    width=head_dim,
    length=length,
    features=frozenset(features),
  )


def _run(choice, blocks, values, logits, segments):
  if choice.implementation == "reference":
    return reference.dynamic_convolution(values, logits, segments=segments)
  path = _BACKENDS[choice.implementation]
  backend = _dispatch.load_backend(f"{path}:{_OP}")
  if blocks is None and choice.blocks is not None:
    tiles = importlib.import_module(path).Tiles
    blocks = _dispatch.from_plain(tiles, choice.blocks)
  run = functools.partial(backend, blocks=blocks, interpret=choice.interpret)
  return sharded.convolve(
    lambda v, l, s: run(v, l, segments=s),  # noqa: E741
    values,
    logits,
    segments,
  )


def _check(values, logits, segments):
  if values.ndim != 4 or logits.shape[:-1] != values.shape[:-1]:
    raise ValueError(
      f"values {values.shape} and logits {logits.shape} must both be [batch, "
      "length, heads, ...], alike but for their last axis"
    )
  if logits.shape[-1] % 2 == 0:
    raise ValueError(f"width {logits.shape[-1]} is even: taps have no centre")
  if segments is not None and segments.shape != values.shape[:2]:
    raise ValueError(
      f"segments {segments.shape} must be [batch, length] of values "
      f"{values.shape}"
    )
