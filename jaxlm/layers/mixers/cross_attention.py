"""Attention from a decoder to its encoder (Vaswani et al.,
arXiv:1706.03762, section 3.2.3)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.context import capture
from jaxlm.layers import primitives
from jaxlm.layers.mixers import mixers
from jaxlm.layers.primitives import Initializer
from pallas_kernels.flash_attention import flash_attention


@mixers.register(
  "cross_attention", paper="arXiv:1706.03762", example={"heads": 4, "width": 32}
)
class CrossAttention(nn.Module):
  """Queries from x [batch, length, width], keys and values from `ctx.memory`.

  A token sees the encoder's tokens of its own segment, so packed pairs stay
  apart. Score biases of the decoder's positions are not added: distances
  between two texts mean nothing.

  Attributes:
    heads: query heads, and as many of keys and values.
    width: width of the model.
    head_dim: width of a head; width / heads where 0.
    use_bias: biases of the four dense maps.
    scale: factor of the scores, as in `attention`.
    dropout: rate on the attention probabilities.
  """

  # Knows of order only what the context tells: see models/_places.py.
  any_order: ClassVar[bool] = True
  reads_memory: ClassVar[bool] = True  # keys and values of another model
  # x may be of any width; what a block has for values is not read.
  separate_values: ClassVar[bool] = True

  heads: int
  width: int
  head_dim: int = 0
  use_bias: bool = True
  scale: float = 0.0
  dropout: float = 0.0
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx, values=None):
    """Returns [batch, length, width]; values come from the encoder.

    Raises:
      UserError: there is no encoder, or heads do not divide the width.
    """
    del values
    self._check(ctx)
    dim = self.head_dim or self.width // self.heads
    scale = self.scale or dim**-0.5
    gain = primitives.query_gain(scale, dim)
    query = self._heads(x, "query", dim, gain)
    key, value, segments = self._memory(ctx, dim)
    rate = self.dropout if ctx.train else 0.0
    wanted = "cross_attention_probabilities" in ctx.capture
    out = flash_attention(
      query,
      key,
      value,
      segments=ctx.segments,
      key_segments=segments,
      scale=scale,
      dropout_rate=rate,
      dropout_key=self.make_rng("dropout") if rate else None,
      with_probabilities=wanted,
    )
    if wanted:
      out, probabilities = out
      capture(self, ctx, "cross_attention_probabilities", probabilities)
    out = out.reshape(*x.shape[:-1], -1)
    return self._dense(
      self.width, ("heads", "embed"), self.initializer.output(), "output"
    )(out)

  def _check(self, ctx):
    if ctx.memory is None and not ctx.cache_length:
      raise errors.UserError(
        "cross_attention has no encoder to read: it belongs into the decoder "
        "of config.model.kind='encoder_decoder'."
      )
    if not self.head_dim and self.width % self.heads:
      raise errors.UserError(
        f"cross_attention: heads={self.heads} do not divide "
        f"width={self.width}; change one, or set head_dim."
      )

  def _dense(self, features, axes, init, name):
    return primitives.dense_of(
      self, features, axes, init, name, use_bias=self.use_bias
    )

  def _heads(self, x, name, dim, gain=1.0):
    y = self._dense(
      self.heads * dim, ("embed", "heads"), self.initializer.kernel(gain), name
    )(x)
    return y.reshape(*x.shape[:-1], self.heads, dim)

  def _memory(self, ctx, dim):
    """Keys, values [batch, source, heads, dim] and segments [batch, source].

    With a cache, the first call keeps them and later ones, which bring no
    memory, read them.
    """
    if ctx.memory is not None:
      key = self._heads(ctx.memory, "key", dim)
      value = self._heads(ctx.memory, "value", dim)
      found = (key, value, ctx.memory_segments)
    names = ("keys", "values", "key_segments")
    if not ctx.cache_length:
      return found
    if ctx.memory is None:
      return tuple(self.get_variable("cache", name) for name in names)
    for name, array in zip(names, found):
      self.variable("cache", name, jnp.zeros_like, array).value = array
    return found
