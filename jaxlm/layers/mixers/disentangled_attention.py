"""DeBERTa's attention: contents and relative positions compared apart."""

import math
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.mixers import mixers
from jaxlm.layers.mixers._attend import attend
from jaxlm.layers.primitives import Initializer
from jaxlm.layers.relative import RELATIVE
from pallas_kernels.flash_attention import bias

TERMS = ("c2p", "p2c")


@mixers.register(
  "disentangled_attention",
  paper="arXiv:2006.03654",
  example={"heads": 4, "width": 32},
)
class DisentangledAttention(nn.Module):
  """x [batch, length, width] -> [batch, length, width].

  Equation 4 of the paper, with r the rows of the relative table:

    score_ij = (q_i k_j + q_i r^K_(i-j) + k_j r^Q_(i-j)) / sqrt(3 head_dim)

  where 3 counts the terms. The paper reads r^Q at j - i, its released code
  (and all released weights) at i - j. Safe for packed rows, in which the
  distance of two tokens of a document is that of their places.

  Attributes:
    heads: attention heads.
    width: width of the model.
    head_dim: width of a head; width / heads where 0.
    terms: which of 'c2p' (content to position, r^K) and 'p2c' (position to
      content, r^Q) are added.
    share_key: r^Q and r^K by the maps of queries and keys (v2, v3); by maps
      of their own where off (v1).
    key_bias: biases of the keys' maps (v2, v3).
    p2c_index: 'query_key' reads r^Q at i - j, 'key_query' at j - i.
    dropout: rate on the attention probabilities.
    position_dropout: rate on the relative table, anew in each layer.
    implementation: see `attention`.
  """

  adds_bias: ClassVar[bool] = True
  reads: ClassVar[str] = RELATIVE

  heads: int
  width: int
  head_dim: int = 0
  terms: tuple[str, ...] = TERMS
  share_key: bool = True
  key_bias: bool = True
  p2c_index: str = "query_key"
  dropout: float = 0.0
  position_dropout: float = 0.0
  implementation: str | None = None
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx, kv=None):
    """Queries from x; keys and values from `kv`, or from x too."""
    self._check(ctx)
    kv = x if kv is None else kv
    to_query = self._map("query")
    to_key = self._map("key", self.key_bias)
    query, key = self._heads(to_query(x)), self._heads(to_key(kv))
    value = self._heads(self._map("value")(kv))
    if not self.share_key:
      # Maps of a term that is off are never called: they have no parameters.
      to_query = self._map("position_query")
      to_key = self._map("position_key", self.key_bias)
    term = self._scores(query, key, to_query, to_key, ctx)
    ctx = ctx.replace(
      bias=bias.add(ctx.bias, term), score_terms=1 + len(self.terms)
    )
    out = attend(
      self,
      ctx,
      query,
      key,
      value,
      dropout=self.dropout,
      implementation=self.implementation,
    )
    return primitives.dense_of(
      self, self.width, ("heads", "embed"), self.initializer.output(), "output"
    )(out.reshape(*x.shape[:-1], -1))

  def _scores(self, query, key, to_query, to_key, ctx):
    """The bias of equation 4's second and third term."""
    rows, forth, back = ctx.shared[RELATIVE].reached(
      query.shape[1], key.shape[1]
    )
    drop = primitives.Dropout(self.position_dropout)
    rows = drop(rows, deterministic=not ctx.train)[None]
    scale = 1.0 / math.sqrt((1 + len(self.terms)) * query.shape[-1])
    # Scores decide: they are not rounded to bfloat16.
    compare = lambda contents, rows: (
      scale
      * jnp.einsum(
        "blhd,rhd->blhr",
        contents,
        self._heads(rows)[0],
        preferred_element_type=jnp.promote_types(self.dtype, jnp.float32),
      )
    )
    c2p = compare(query, to_key(rows)) if "c2p" in self.terms else None
    p2c = compare(key, to_query(rows)) if "p2c" in self.terms else None
    return bias.Disentangled(
      c2p, p2c, forth, forth if self.p2c_index == "query_key" else back
    )

  def _map(self, name, use_bias=True):
    return primitives.dense_of(
      self,
      self.heads * self._dim(),
      ("embed", "heads"),
      self.initializer.kernel(),
      name,
      use_bias=use_bias,
    )

  def _dim(self):
    return self.head_dim or self.width // self.heads

  def _heads(self, x):
    return x.reshape(*x.shape[:-1], self.heads, self._dim())

  def _check(self, ctx):
    if not self.head_dim and self.width % self.heads:
      raise errors.UserError(
        f"disentangled_attention: heads={self.heads} do not divide "
        f"width={self.width}; change one, or set head_dim."
      )
    for term in self.terms:
      if term not in TERMS:
        raise errors.unknown("disentangled_attention has no term", term, TERMS)
    known = ("query_key", "key_query")
    if self.p2c_index not in known:
      raise errors.unknown(
        "disentangled_attention has no p2c_index", self.p2c_index, known
      )
    if not self.terms:
      raise errors.UserError(
        "disentangled_attention has no terms: give 'c2p', 'p2c' or both, or "
        "take the mixer 'attention'."
      )
    if ctx.cache_length:
      raise errors.UserError(
        "disentangled_attention reads whole texts: it cannot decode with kept "
        "keys. Take the mixer 'attention' for a model that generates."
      )
