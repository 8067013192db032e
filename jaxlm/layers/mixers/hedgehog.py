"""Linear attention with learned feature maps (Hedgehog, arXiv:2402.04347)."""

import functools
from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.context import capture
from jaxlm.layers import primitives
from jaxlm.layers.mixers import _imitation, _implementations, mixers
from jaxlm.layers.mixers._feature_maps import FeatureMap
from jaxlm.layers.mixers._feature_maps import check as check_features
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer
from pallas_kernels.linear_attention import implementations, linear_attention

_EPSILON = 1e-12


@mixers.register(
  "hedgehog", paper="arXiv:2402.04347", example={"heads": 4, "width": 32}
)
class Hedgehog(nn.Module):
  """x [batch, length, width] -> [batch, length, width], linear in length.

  out_i = sum_j (f(q_i) . g(k_j)) v_j / sum_j f(q_i) . g(k_j), f and g maps of
  each head; queries are not divided by sqrt(head_dim). Documents of a packed
  row and padding are kept apart by `ctx.segments`. Dense maps are named as
  those of `attention`, whose weights it takes over (`config.model.replace`).

  Where 'attention_cross_entropy' is captured (`attention_distillation`), the
  layer is its own teacher: it keeps how far its weights are from those of
  softmax attention over the same queries and keys, and hands on what softmax
  attention gives, so that each layer learns from the softmax model's hidden
  states. Gradients of what is kept reach the maps alone. Quadratic in length.

  Attributes:
    heads: of queries, keys and values.
    width: width of the model.
    head_dim: width of a head; width / heads where 0.
    causal: hide what comes later.
    use_bias: biases of the four dense maps.
    feature_map: 'exp' as published, 'softmax', 'joint', 'elu' or 'relu'.
    positions: acts on queries and keys before the maps (rotary).
    implementation: what computes it, a name that
      `pallas_kernels.linear_attention.implementations()` lists; None picks by
      device and shape.
  """

  # Knows of order only what the context tells: see models/_places.py.
  any_order: ClassVar[bool] = True
  # Whose place it takes, and the fields that then fall away.
  replaces: ClassVar[Mapping[str, tuple[str, ...]]] = {
    "attention": ("dropout", "implementation")
  }
  drawn_anew: ClassVar[tuple[str, ...]] = ("query_map", "key_map")
  score_share: ClassVar[float] = 0.0  # of FLOPs: states cost 3% of a layer

  heads: int
  width: int
  head_dim: int = 0
  causal: bool = False
  use_bias: bool = True
  feature_map: str = "exp"
  positions: Positions | None = None
  implementation: str | None = None
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx):
    self._check()
    query, key, value = (
      self._heads(x, name) for name in ("query", "key", "value")
    )
    if self.positions is not None:
      query, key = self.positions.at_query_key(query, key, ctx)
    if "attention_cross_entropy" in ctx.capture:
      out = self._taught(query, key, value, ctx)
    elif ctx.cache_length:
      out = self._decoded(*self._features(query, key), value, ctx)
    else:
      out = self._attend(*self._features(query, key), value, ctx)
    return self._dense(
      self.width, ("heads", "embed"), self.initializer.output(), "output"
    )(out.reshape(*x.shape[:-1], -1))

  def _check(self):
    check_features(self.feature_map)
    _implementations.check(self.implementation, implementations(), "hedgehog")
    if not self.head_dim and self.width % self.heads:
      raise errors.UserError(
        f"hedgehog: heads={self.heads} do not divide width={self.width}; "
        "change one, or set head_dim."
      )

  def _dense(self, features, axes, init, name):
    return primitives.dense_of(
      self, features, axes, init, name, use_bias=self.use_bias
    )

  def _heads(self, x, name):
    dim = self.head_dim or self.width // self.heads
    axes, init = ("embed", "heads"), self.initializer.kernel()
    y = self._dense(self.heads * dim, axes, init, name)(x)
    return y.reshape(*x.shape[:-1], self.heads, dim)

  def _features(self, query, key, dtype=None):
    build = functools.partial(
      FeatureMap, self.feature_map, dtype or self.dtype, self.param_dtype
    )
    return build(name="query_map")(query), build(name="key_map")(key)

  def _taught(self, query, key, value, ctx):
    out, probabilities = _imitation.softmax_attention(
      query, key, value, ctx, self.causal
    )
    wide = jnp.promote_types(self.dtype, jnp.float32)
    query, key = jax.lax.stop_gradient((query, key))
    features = self._features(query, key, wide)
    loss, entropy = _imitation.cross_entropy(probabilities, *features, ctx)
    capture(self, ctx, "attention_cross_entropy", loss)
    capture(self, ctx, "attention_entropy", entropy)
    return out

  def _attend(self, query, key, value, ctx):
    # Shapes are asked for on machines that do not have the device.
    name = None if self.is_initializing() else self.implementation
    with _implementations.mendable(name):
      return linear_attention(
        query,
        key,
        value,
        causal=self.causal,
        segments=ctx.segments,
        epsilon=_EPSILON,
        implementation=name,
      )

  def _decoded(self, query, key, value, ctx):
    """Attention of new tokens to themselves and to all before them.

    What is kept does not grow: of the newest document of each row the sums of
    g(k) v [batch, heads, features, head_dim] and of g(k), and its segment.
    """
    wide = jnp.promote_types(self.dtype, jnp.float32)
    query, key, value = (a.astype(wide) for a in (query, key, value))
    key = key * ctx.mask[:, :, None, None]
    batch, length, heads, features = key.shape
    shape = (batch, heads, features, value.shape[-1])
    states = self.variable("cache", "states", jnp.zeros, shape, wide)
    totals = self.variable("cache", "totals", jnp.zeros, shape[:3], wide)
    kept = self.variable("cache", "segment", jnp.zeros, (batch, 1), jnp.int32)
    segments, last = ctx.segments, ctx.segments[:, -1:]
    same = segments[:, None, :, None] == segments[:, None, None, :]
    same &= jnp.tril(jnp.ones((length, length), bool))[None, None]
    scores = jnp.einsum("bihf,bjhf->bhij", query, key) * same
    goes_on = query * (segments == kept.value)[..., None, None]
    above = jnp.einsum("bhij,bjhd->bihd", scores, value)
    above += jnp.einsum("bihf,bhfd->bihd", goes_on, states.value)
    below = jnp.moveaxis(jnp.sum(scores, -1), 1, 2)
    below += jnp.einsum("bihf,bhf->bih", goes_on, totals.value)
    if not self.is_initializing():
      new = key * (segments == last)[..., None, None]
      old = (last == kept.value)[..., None].astype(wide)
      states.value = states.value * old[..., None]
      states.value += jnp.einsum("bjhf,bjhd->bhfd", new, value)
      totals.value = totals.value * old + jnp.sum(new, 1)
      kept.value = last
    return (above / (below + _EPSILON)[..., None]).astype(self.dtype)
