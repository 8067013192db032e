"""Multi-head softmax attention (Vaswani et al., arXiv:1706.03762)."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.mixers import _implementations, mixers
from jaxlm.layers.mixers._attend import attend, placed
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer
from pallas_kernels.flash_attention import check_name


@mixers.register(
  "attention", paper="arXiv:1706.03762", example={"heads": 4, "width": 32}
)
class Attention(nn.Module):
  """x [batch, length, width] -> [batch, length, width].

  Packed documents and padding are kept apart by `ctx.segments`, so the part
  is safe for packed rows.

  Attributes:
    heads: query heads.
    width: width of the model.
    head_dim: width of a head; width / heads where 0.
    key_heads: heads of keys and values; as many as queries where 0.
    window: tokens that a query sees: half to each side, or all before it
      where causal; 0 for no limit. 128 sees distances up to 64 (ModernBERT),
      or 127 where causal.
    causal: hide what comes later.
    use_bias: biases of the four dense maps.
    scale: factor of the scores; 1 / sqrt(head_dim) where 0. Where it is larger
      (1 in T5), the query's kernel starts smaller by as much.
    dropout: rate on the attention probabilities.
    positions: acts on queries and keys (rotary) or makes scores of queries
      (relative_key).
    implementation: what computes attention, a name that
      `pallas_kernels.flash_attention.implementations()` lists; None picks by
      device and shape. Steps that a kernel has no part in (initialising,
      decoding with kept keys, keeping probabilities) run on XLA's own code.
  """

  # Knows of order only what the context tells: see models/_places.py.
  any_order: ClassVar[bool] = True
  adds_bias: ClassVar[bool] = True
  # Takes `values`, and inputs of any width.
  separate_values: ClassVar[bool] = True

  heads: int
  width: int
  head_dim: int = 0
  key_heads: int = 0
  window: int = 0
  causal: bool = False
  use_bias: bool = True
  scale: float = 0.0
  dropout: float = 0.0
  positions: Positions | None = None
  implementation: str | None = None
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx, kv=None, values=None):
    """Queries from x; keys and values from `kv`, or values from `values`."""
    self._check()
    kv = x if kv is None else kv
    values = kv if values is None else values
    query = self._heads(x, "query", self.heads, self._gain())
    key = self._heads(kv, "key", self.key_heads or self.heads)
    value = self._heads(values, "value", self.key_heads or self.heads)
    query, key, ctx = placed(self.positions, query, key, ctx, self.scale)
    query = self._weighted(query)
    segments, offset = ctx.segments, 0
    if ctx.cache_length:
      key, value, segments, offset = self._cached(key, value, ctx)
    out = attend(
      self,
      ctx,
      query,
      key,
      value,
      dropout=self.dropout,
      implementation=self.implementation,
      causal=self.causal,
      window=self._window(),
      key_segments=segments,
      offset=offset,
      scale=self.scale,
    )
    out = out.reshape(*x.shape[:-1], -1)
    return self._dense(
      self.width, ("heads", "embed"), self.initializer.output(), "output"
    )(out)

  def _check(self):
    if not self.head_dim and self.width % self.heads:
      raise errors.UserError(
        f"attention: heads={self.heads} do not divide width={self.width}; "
        "change one, or set head_dim."
      )
    if self.key_heads and self.heads % self.key_heads:
      raise errors.UserError(
        f"attention: key_heads={self.key_heads} do not divide "
        f"heads={self.heads}."
      )

    with _implementations.mendable(self.implementation):
      check_name(self.implementation)

  def _dense(self, features, axes, init, name):
    return primitives.dense_of(
      self, features, axes, init, name, use_bias=self.use_bias
    )

  def _gain(self):
    dim = self.head_dim or self.width // self.heads
    return primitives.query_gain(self.scale, dim) if self.scale else 1.0

  def _heads(self, x, name, heads, gain=1.0):
    dim = self.head_dim or self.width // self.heads
    y = self._dense(
      heads * dim, ("embed", "heads"), self.initializer.kernel(gain), name
    )(x)
    return y.reshape(*x.shape[:-1], heads, dim)

  def _weighted(self, query):
    """Queries as they are compared with keys; the same here."""
    return query

  def _window(self):
    if not self.window:
      return None
    if self.causal:
      return (self.window - 1, 0)
    return (self.window // 2, self.window // 2)

  def _cached(self, key, value, ctx):
    """Adds to the kept keys and values; returns all of them.

    Returns:
      key, value [batch, cache_length, key_heads, head_dim], segments [batch,
      cache_length], and the place of the first query among them.
    """
    shape = (key.shape[0], ctx.cache_length, *key.shape[2:])
    keys = self.variable("cache", "keys", jnp.zeros, shape, key.dtype)
    values = self.variable("cache", "values", jnp.zeros, shape, value.dtype)
    segments = self.variable(
      "cache", "key_segments", jnp.zeros, shape[:2], jnp.int32
    )
    filled = self.variable("cache", "filled", jnp.zeros, (), jnp.int32)
    start = filled.value
    if not self.is_initializing():
      insert = jax.lax.dynamic_update_slice
      zero = jnp.zeros_like(start)  # a plain 0 is int64 under float64
      keys.value = insert(keys.value, key, (zero, start, zero, zero))
      values.value = insert(values.value, value, (zero, start, zero, zero))
      segments.value = insert(segments.value, ctx.segments, (zero, start))
      filled.value = start + key.shape[1]
    return keys.value, values.value, segments.value, start
