"""Heads of several operations in one layer (FlexiBERT 2.0)."""

import itertools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives, transforms
from jaxlm.layers.mixers import mixers
from jaxlm.layers.mixers._attend import attend, placed
from jaxlm.layers.mixers._span_convolution import SpanConvolution
from jaxlm.layers.mixers.fourier import LEAKS
from jaxlm.layers.mixers.weighted_attention import uniform
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer

_COMPARING = ("sdp", "wma")
_CONVOLUTION = "conv_"


@mixers.register(
  "mixed_heads",
  paper="arXiv:2205.11656",
  example={
    "heads": 4,
    "width": 32,
    "operations": ("sdp", "wma", "conv_3", "conv_3"),
  },
)
class MixedHeads(nn.Module):
  """x [batch, length, width] -> [batch, length, width], each head its own way.

  Queries, keys, values, positions and the output map are as in attention. A
  head's scores hold contents if its operation compares ('sdp' q k, 'wma' q M
  k with an M of its own) and positions alone if not; such a head adds a
  transform of its values over row and features ('dft', 'dct'), or their
  span-based dynamic convolution by n taps ('conv_n'), whose kernels are made
  of its keys and queries. The released code returns 0 from comparing heads,
  by mistake; here they attend.

  Attributes:
    heads: heads, as many as there are operations.
    width: width of the model.
    operations: one a head: 'sdp', 'wma', 'dft', 'dct' or 'conv_n', n odd.
    head_dim: width of a head; width / heads where 0.
    orthonormal: transforms keep the scale of the values; the released code's
      do not.
    dropout: rate on the attention probabilities.
    positions: acts on queries and keys, or makes scores of queries.
    parity: let transforms and convolutions read what padding holds.
    implementation: what computes attention, as in `attention`.
    convolution_implementation: as in `mixed_attention`.
  """

  adds_bias: ClassVar[bool] = True

  heads: int
  width: int
  operations: tuple[str, ...]
  head_dim: int = 0
  orthonormal: bool = True
  dropout: float = 0.0
  positions: Positions | None = None
  parity: bool = False
  implementation: str | None = None
  convolution_implementation: str | None = None
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @property
  def leaks(self) -> str:
    """Why packed rows are refused; '' where they are not."""
    if set(self.operations) & set(transforms.TRANSFORMS):
      return LEAKS
    if self.parity and any(map(_taps, self.operations)):
      return "with parity=True its convolutions run into other documents."
    return ""

  @nn.compact
  def __call__(self, x, ctx):
    self._check(ctx)
    value = self._heads(x, "value")
    query = key = jnp.zeros_like(value)
    placing = self.positions is not None
    if self._keyed():
      key = self._heads(x, "key")
    if self._keyed() or placing:
      query = self._heads(x, "query")
    turned, turned_key, placed_ctx = placed(self.positions, query, key, ctx)
    runs = self._runs()
    compared = [self._compared(turned, *run) for run in runs]
    attended = attend(
      self,
      placed_ctx,
      jnp.concatenate(compared, axis=2),
      turned_key,
      value,
      dropout=self.dropout,
      implementation=self.implementation,
    )
    added = [self._added(query, key, value, ctx, *run) for run in runs]
    out = attended + jnp.concatenate(added, axis=2)
    return primitives.dense_of(
      self, self.width, ("heads", "embed"), self.initializer.output(), "output"
    )(out.reshape(*x.shape[:-1], -1))

  def _compared(self, query, operation, heads):
    """What the heads of a run compare with keys; 0 where they do not."""
    own = query[:, :, heads]
    if operation not in _COMPARING:
      return jnp.zeros_like(own)
    if operation == "sdp":
      return own
    count, size = own.shape[2:]
    weights = self.param(
      f"weights_{heads.start}",
      primitives.partitioned(uniform, (None, None, None)),
      (count, size, size),
      self.param_dtype,
    )
    return jnp.einsum("blhd,hde->blhe", own, weights.astype(self.dtype))

  def _added(self, query, key, value, ctx, operation, heads):
    """What the heads of a run add to what they attended to."""
    own = value[:, :, heads]
    if operation in transforms.TRANSFORMS:
      return transforms.of_row(
        operation,
        own,
        ctx,
        (1, 3),
        orthonormal=self.orthonormal,
        parity=self.parity,
      )
    if operation in _COMPARING:
      return jnp.zeros_like(own)
    flat = lambda array: array[:, :, heads].reshape(*array.shape[:2], -1)
    count, size = own.shape[2:]
    return SpanConvolution(
      count,
      size,
      _taps(operation),
      groups=count,
      parity=self.parity,
      implementation=self.convolution_implementation,
      initializer=self.initializer,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name=f"span_{heads.start}",
    )(flat(key), flat(query), ctx, flat(value))

  def _keyed(self) -> bool:
    """Whether any head reads keys."""
    return any(o not in transforms.TRANSFORMS for o in self.operations)

  def _runs(self) -> list[tuple[str, slice]]:
    """(operation, its heads) of neighbours of one operation."""
    runs, start = [], 0
    for operation, same in itertools.groupby(self.operations):
      stop = start + len(list(same))
      runs.append((operation, slice(start, stop)))
      start = stop
    return runs

  def _heads(self, x, name):
    dim = self.head_dim or self.width // self.heads
    axes, init = ("embed", "heads"), self.initializer.kernel()
    y = primitives.dense_of(self, self.heads * dim, axes, init, name)(x)
    return y.reshape(*x.shape[:-1], self.heads, dim)

  def _check(self, ctx):
    for operation in self.operations:
      if _taps(operation) % 2 == 0 and operation not in _KNOWN:
        raise errors.unknown(
          "mixer 'mixed_heads' has no operation",
          operation,
          [*_KNOWN, "conv_5", "conv_9", "conv_13"],
        )
    if len(self.operations) != self.heads:
      raise errors.UserError(
        f"mixer 'mixed_heads' has heads={self.heads} but "
        f"{len(self.operations)} operations; give one a head."
      )
    if not self.head_dim and self.width % self.heads:
      raise errors.UserError(
        f"mixer 'mixed_heads': heads={self.heads} do not divide "
        f"width={self.width}; change one, or set head_dim."
      )
    turning = self.positions is not None and self.positions.turns_queries()
    if turning and not set(self.operations) & set(_COMPARING):
      raise errors.UserError(
        "mixer 'mixed_heads' has positions that turn queries and keys, but no "
        f"head that compares them ({', '.join(_COMPARING)})."
      )
    if ctx.cache_length:
      raise errors.UserError(
        "mixer 'mixed_heads' looks ahead, so it cannot decode with kept keys."
      )


_KNOWN = (*_COMPARING, *transforms.TRANSFORMS)


def _taps(operation: str) -> int:
  """The taps of 'conv_n'; 0 of other operations."""
  number = operation.removeprefix(_CONVOLUTION)
  return int(number) if number != operation and number.isdigit() else 0
