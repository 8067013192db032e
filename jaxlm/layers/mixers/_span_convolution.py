"""The convolution half of ConvBERT's mixed attention."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.convolutions import DepthwiseConvolution
from jaxlm.layers.grouped import GroupedDense
from jaxlm.layers.mixers import _implementations
from jaxlm.layers.primitives import Initializer
from pallas_kernels.dynamic_convolution import dynamic_convolution


class SpanConvolution(nn.Module):
  """Span-based dynamic convolution (arXiv:2008.02496, section 4.2).

  The kernel of a token is made of its query times a summary of the span
  around it: softmax(W (query * separable_convolution(x)) + b), one kernel a
  head; it runs over a linear map of x.

  Attributes:
    heads: kernels of a token.
    head_dim: features of a head.
    kernel_size: taps, odd.
    groups: blocks of the three dense maps; `heads` where each head sees its own
      features alone (FlexiBERT's mixed heads).
    parity: let padding and other documents in, as the released model does.
    implementation: a name of `dynamic_convolution.implementations()`, or None.
  """

  heads: int
  head_dim: int
  kernel_size: int
  groups: int = 1
  parity: bool = False
  implementation: str | None = None
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, query, ctx, source=None):
    """Kernels from x and the query, over a linear map of `source`.

    Args:
      x: [batch, length, width], what a span is summed up from.
      query: [batch, length, heads * head_dim].
      ctx: the context.
      source: [batch, length, any], what is convolved; x where None.

    Returns:
      [batch, length, heads, head_dim].
    """
    segments = None if self.parity else ctx.segments
    span = DepthwiseConvolution(
      self.kernel_size,
      kernel_init=self._tap_init(),
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="depthwise",
    )(x, segments)
    features = self.heads * self.head_dim
    span = self._dense(features, "pointwise")(span)
    logits = self._dense(self.heads * self.kernel_size, "kernel")(span * query)
    values = self._dense(features, "value")(x if source is None else source)
    implementation = self.implementation
    if self.is_initializing():  # asks for shapes, maybe without the device
      implementation = None
    field = "convolution_implementation"
    with _implementations.mendable(implementation, field):
      return dynamic_convolution(
        values.reshape(*x.shape[:-1], self.heads, self.head_dim),
        logits.reshape(*x.shape[:-1], self.heads, self.kernel_size),
        segments=segments,
        implementation=implementation,
      )

  def _tap_init(self):
    """The released code starts the depthwise filter with std 1 / width."""
    std = 1.0 / self.kernel_size
    return dataclasses.replace(self.initializer, std=std).kernel()

  def _dense(self, features, name):
    shared = dict(dtype=self.dtype, param_dtype=self.param_dtype, name=name)
    axes, init = ("embed", "heads"), self.initializer.kernel()
    if self.groups == 1:
      return primitives.dense(features, axes, init=init, **shared)
    return GroupedDense(
      features, self.groups, axes=axes, kernel_init=init, **shared
    )
