"""Post-norm block with a convolution beside it (DeBERTa v2's first layer)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.blocks import blocks
from jaxlm.layers.blocks.post_norm import PostNorm
from jaxlm.layers.primitives import Initializer


@blocks.register(
  "post_norm_convolution", paper="arXiv:2006.03654", example={"width": 32}
)
class PostNormConvolution(PostNorm):
  """y = post_norm(x); norm(y + act(dropout(convolution(x)))).

  Of the released v2 models (xlarge and xxlarge), which read n-grams of the
  embeddings so. Taps in another document or in padding count as 0, as in the
  release, which knows one document a row: safe for packed rows.

  Attributes:
    width: width of the stream.
    kernel_size: odd number of taps.
    activation: a name of `primitives.ACTIVATIONS`.
  """

  # Why it cannot run on chosen tokens alone: see models/_places.py.
  neighbours: ClassVar[str] = "reads the tokens to both sides."

  splits: ClassVar[bool] = False

  width: int = 0
  kernel_size: int = 3
  activation: str = "gelu"
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  def setup(self):
    super().setup()
    if self.kernel_size % 2 == 0:
      raise errors.UserError(
        f"block 'post_norm_convolution': kernel_size={self.kernel_size} is "
        "even, so the taps have no centre; take "
        f"{self.kernel_size - 1} or {self.kernel_size + 1}."
      )
    self.convolution_kernel = self.param(
      "convolution_kernel",
      primitives.partitioned(self.initializer.kernel(), (None, "embed", "mlp")),
      (self.kernel_size, self.width, self.width),
      self.param_dtype,
    )
    self.convolution_bias = self.param(
      "convolution_bias",
      primitives.partitioned(nn.initializers.zeros, ("mlp",)),
      (self.width,),
      self.param_dtype,
    )
    self.convolution_norm = self.norm()

  def __call__(self, x, ctx, kv=None):
    y = super().__call__(x, ctx, kv)
    h = self.drop(self._convolved(x, ctx), deterministic=not ctx.train)
    h = primitives.activation(self.activation)(h)
    return self.convolution_norm(y + h)

  def _convolved(self, x, ctx):
    """The convolution of each document by itself, [batch, length, width]."""
    windows = jnp.stack(_windows(x, ctx.segments, self.kernel_size), axis=2)
    y = jnp.einsum(
      "blkd,kde->ble",
      windows.astype(self.dtype),
      self.convolution_kernel.astype(self.dtype),
      preferred_element_type=jnp.promote_types(self.dtype, jnp.float32),
    ).astype(self.dtype)
    y = y + self.convolution_bias.astype(self.dtype).reshape(1, 1, -1)
    return jnp.where(ctx.mask[..., None], y, 0)


def _windows(x, segments, size):
  """x [batch, length, features] moved by -(size // 2) .. size // 2 places."""
  half, length = size // 2, x.shape[1]
  padded = jnp.pad(x, ((0, 0), (half, half), (0, 0)))
  around = jnp.pad(segments, ((0, 0), (half, half)))
  moved = []
  for k in range(size):
    same = around[:, k : k + length] == segments
    same = (same & (segments > 0))[..., None]
    moved.append(jnp.where(same, padded[:, k : k + length], 0))
  return moved
