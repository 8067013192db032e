"""A fixed transform beside attention to positions (FlexiBERT's `l` layers)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives, transforms
from jaxlm.layers.mixers import mixers
from jaxlm.layers.mixers._attend import attend, placed
from jaxlm.layers.mixers.fourier import LEAKS
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer


@mixers.register(
  "transform_attention",
  paper="arXiv:2205.11656",
  example={"heads": 4, "width": 32},
)
class TransformAttention(nn.Module):
  """W_o (T(x) + softmax(positions) v), x [batch, length, width].

  As FlexiBERT is released: T is a transform over row and features, and the
  scores beside it hold no contents, only what positions say (`relative_key`
  inside, or a score bias of the model); without positions v is averaged. The
  paper tells of T alone, which the mixers `fourier` and `cosine` are.

  Attributes:
    heads: of the attention.
    width: width of the model.
    transform: 'dft' (the real part) or 'dct' (type II).
    orthonormal: keep the scale of x; the released code does not, so that T
      outweighs all that is added to it.
    dropout: rate on the attention probabilities.
    positions: makes scores of queries (relative_key), or None.
    parity: let T read what padding holds, as the released code does.
    implementation: what computes attention, as in `attention`.
  """

  adds_bias: ClassVar[bool] = True
  turns: ClassVar[bool] = False  # it compares no queries with keys
  leaks: ClassVar[str] = LEAKS

  heads: int
  width: int
  transform: str = "dct"
  orthonormal: bool = True
  dropout: float = 0.0
  positions: Positions | None = None
  parity: bool = False
  implementation: str | None = None
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx):
    self._check(ctx)
    value = self._heads(x, "value")
    nothing = jnp.zeros_like(value)
    if self.positions is not None:
      query = self._heads(x, "query")
      ctx = placed(self.positions, query, nothing, ctx)[-1]
    attended = attend(
      self,
      ctx,
      nothing,
      nothing,
      value,
      dropout=self.dropout,
      implementation=self.implementation,
    )
    mixed = transforms.of_row(
      self.transform,
      x,
      ctx,
      orthonormal=self.orthonormal,
      parity=self.parity,
    )
    return primitives.dense_of(
      self, self.width, ("heads", "embed"), self.initializer.output(), "output"
    )(mixed + attended.reshape(x.shape))

  def _heads(self, x, name):
    axes, init = ("embed", "heads"), self.initializer.kernel()
    y = primitives.dense_of(self, self.width, axes, init, name)(x)
    return y.reshape(*x.shape[:-1], self.heads, -1)

  def _check(self, ctx):
    if self.width % self.heads:
      raise errors.UserError(
        f"transform_attention: heads={self.heads} do not divide "
        f"width={self.width}; change one."
      )
    if ctx.cache_length:
      raise errors.UserError(
        "transform_attention looks ahead, so it cannot decode with kept keys."
      )
