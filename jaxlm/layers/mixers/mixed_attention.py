"""ConvBERT's mixed attention (Jiang et al., arXiv:2008.02496)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.mixers import _implementations, mixers
from jaxlm.layers.mixers._attend import attend, placed
from jaxlm.layers.mixers._span_convolution import SpanConvolution
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer
from pallas_kernels import dynamic_convolution, flash_attention

_EXAMPLE = {"heads": 2, "width": 32, "kernel_size": 5}


@mixers.register("mixed_attention", paper="arXiv:2008.02496", example=_EXAMPLE)
class MixedAttention(nn.Module):
  """Half the features by attention, half by span-based dynamic convolution.

  x [batch, length, width] -> [batch, length, width]. Both halves have `heads`
  heads of width / (2 heads) features and read the same queries; score biases
  and rotary positions reach the attention half alone. Taps stop at the borders
  of documents, so the part is safe for packed rows.

  Attributes:
    heads: of each half; the published H / gamma, 6 of 12 in ConvBERT-base.
    width: width of the model.
    kernel_size: taps of both convolutions, odd.
    dropout: rate on the attention probabilities.
    positions: acts on the queries and keys of the attention half (rotary), or
      makes scores of its queries (relative_key).
    parity: compute as the released model does, whose convolutions run into
      padding and into other documents, and whose padded queries attend.
    implementation: what computes attention, as in `attention`.
    convolution_implementation: what computes the dynamic convolution, a name
      that `pallas_kernels.dynamic_convolution.implementations()` lists; None
      picks by device and shape.
  """

  adds_bias: ClassVar[bool] = True
  score_share: ClassVar[float] = 0.5  # of the width; for counting FLOPs

  heads: int
  width: int
  kernel_size: int = 9
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
    if not self.parity:
      return ""
    return "with parity=True its convolutions run into other documents."

  @nn.compact
  def __call__(self, x, ctx):
    self._check(ctx)
    head_dim = self.width // (2 * self.heads)
    shape = (*x.shape[:-1], self.heads, head_dim)
    flat_query = self._dense("query")(x)
    query = flat_query.reshape(shape)
    key = self._dense("key")(x).reshape(shape)
    value = self._dense("value")(x).reshape(shape)
    query, key, ctx = placed(self.positions, query, key, ctx)
    real = ctx.mask.astype(jnp.int32)
    attended = attend(
      self,
      # The released model computes padded queries too, and then reads them.
      ctx.replace(segments=jnp.ones_like(real)) if self.parity else ctx,
      query,
      key,
      value,
      dropout=self.dropout,
      implementation=self.implementation,
      key_segments=real if self.parity else None,
    )
    convolved = SpanConvolution(
      self.heads,
      head_dim,
      self.kernel_size,
      parity=self.parity,
      implementation=self.convolution_implementation,
      initializer=self.initializer,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="span",
    )(x, flat_query, ctx)
    both = jnp.concatenate([attended, convolved], axis=-2)
    return primitives.dense_of(
      self, self.width, ("heads", "embed"), self.initializer.output(), "output"
    )(both.reshape(x.shape))

  def _dense(self, name):
    axes, init = ("embed", "heads"), self.initializer.kernel()
    return primitives.dense_of(self, self.width // 2, axes, init, name)

  def _check(self, ctx):
    if self.width % (2 * self.heads):
      raise errors.UserError(
        f"mixed_attention: 2 * heads={2 * self.heads} do not divide "
        f"width={self.width}; change one."
      )
    if self.kernel_size % 2 == 0:
      raise errors.UserError(
        f"mixed_attention: kernel_size={self.kernel_size} is even, so the taps "
        f"have no centre; take {self.kernel_size + 1}."
      )
    if ctx.cache_length:
      raise errors.UserError(
        "mixed_attention looks ahead, so it cannot decode with kept keys."
      )
    with _implementations.mendable(self.implementation):
      flash_attention.check_name(self.implementation)
    name = self.convolution_implementation
    with _implementations.mendable(name, "convolution_implementation"):
      dynamic_convolution.check_name(name)
