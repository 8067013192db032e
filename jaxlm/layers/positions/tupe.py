"""TUPE: scores of positions of their own, untied from those of words."""

import math
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.norms import norms
from jaxlm.layers.positions import positions
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer
from pallas_kernels.flash_attention import bias


@positions.register(
  "tupe",
  paper="arXiv:2006.15595",
  example={"heads": 4, "width": 32, "max_length": 16, "buckets": 32},
)
class UntiedPositions(Positions):
  """Adds (p_i U_Q)(p_j U_K)^T / sqrt(2 d), the same in every layer.

  Equations 7 (TUPE-A), 8 (TUPE-R) and 10 (the reset of [CLS]) of the paper,
  laid out as its release: one table, normed, whose row i + 1 is position i;
  scores of [CLS] towards any token come from row 0, those of others towards
  [CLS] from row 1, so that position 0 has no other use; both have a relative
  score beside it. The first token of a document counts as [CLS]. Scores of
  words are divided by sqrt(2 d) too, which mixers learn from
  `ctx.score_terms`.

  Attributes:
    heads: attention heads of every layer.
    width: width of the table.
    max_length: positions that the table can tell apart.
    buckets: of T5's relative positions (TUPE-R: 32), which are added before
      the reset; 0 for none (TUPE-A).
    max_distance: distances from here on share the last bucket.
    reset: give [CLS] scores of its own; off for models without such a token.
    epsilon: of the norm over the table.
  """

  on_scores: ClassVar[bool] = True

  heads: int
  width: int
  max_length: int = 512
  buckets: int = 0
  max_distance: int = 128
  reset: bool = True
  epsilon: float = 1e-5
  initializer: Initializer = Initializer()
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def prepare(self, ctx):
    """Adds the scores to `ctx.bias` and sets `ctx.score_terms`."""
    self._check(ctx)
    query, key = self._projected()
    rows = ctx.positions + self.reset
    term = bias.Untied(query[rows], key[rows])
    relative = self._relative() if self.buckets else None
    if self.buckets:
      within = relative[: self.buckets]
      term = bias.add(term, bias.Buckets(within, True, self.max_distance))
    if self.reset:
      theta = jnp.einsum("phd,phd->ph", query[:2], key[:2])
      if self.buckets:  # no distance falls into bucket buckets / 2
        theta = theta + relative[jnp.array([self.buckets // 2, self.buckets])]
      first = ctx.positions == 0
      term = bias.Reset(term, theta, first, first)
    return ctx.replace(bias=bias.add(ctx.bias, term), score_terms=2)

  def longest(self):
    """The length of the table."""
    return self.max_length

  def _check(self, ctx):
    if ctx.cache_length:
      raise errors.UserError(
        "position 'tupe' scores whole texts: it cannot decode with kept keys. "
        "Take alibi, relative_buckets or rotary for a model that generates."
      )
    if self.width % self.heads:
      raise errors.UserError(
        f"position 'tupe': heads={self.heads} do not divide "
        f"width={self.width}; change one."
      )
    if self.buckets % 4:
      raise errors.UserError(
        f"position 'tupe': buckets={self.buckets}; half of them serve each "
        "direction and half of those one distance each: take a multiple of "
        "4, or 0 for none (TUPE-A)."
      )

  def _projected(self):
    """Query (scaled) and key [rows of the table, heads, width / heads]."""
    # Some hundred rows, once a step: float32 or wider costs nothing.
    wide = jnp.promote_types(self.param_dtype, jnp.float32)
    types = dict(dtype=wide, param_dtype=self.param_dtype)
    table = self.param(
      "table",
      primitives.partitioned(self.initializer.kernel(), ("length", "embed")),
      (self.max_length + self.reset, self.width),
      self.param_dtype,
    )
    norm = {"kind": "layer_norm", "epsilon": self.epsilon}
    rows = norms.build(norm, name="norm", **types)(table)
    query, key = (
      primitives.dense(
        self.width,
        ("embed", "heads"),
        init=self.initializer.kernel(),
        name=name,
        **types,
      )(rows).reshape(rows.shape[0], self.heads, -1)
      for name in ("query", "key")
    )
    return query / math.sqrt(2 * query.shape[-1]), key

  def _relative(self):
    """[buckets, heads], and with the reset a row for scores towards [CLS]."""
    return self.param(
      "relative",
      primitives.partitioned(self.initializer.kernel(), (None, "heads")),
      (self.buckets + self.reset, self.heads),
      self.param_dtype,
    )
