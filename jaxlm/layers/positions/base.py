"""The hooks by which a position method reaches the model."""

from typing import ClassVar

import flax.linen as nn


class Positions(nn.Module):
  """Does nothing at every hook; a method overrides the ones that it needs.

  Attributes:
    on_scores: whether `prepare` adds to `ctx.bias`, so that every mixer must
      be one that adds it to its scores.
    shares: the key of what `prepare` puts into `ctx.shared`, or "". Every
      mixer must be one that `reads` it, and no other mixer can.
  """

  on_scores: ClassVar[bool] = False
  shares: ClassVar[str] = ""

  @classmethod
  def turns_queries(cls) -> bool:
    """Whether it changes queries and keys, inside mixers."""
    return cls.at_query_key is not Positions.at_query_key

  @classmethod
  def scores_queries(cls) -> bool:
    """Whether it makes scores of queries, inside mixers."""
    return cls.at_scores is not Positions.at_scores

  @classmethod
  def inside(cls) -> bool:
    """Whether it acts inside mixers, each of which has its own."""
    return cls.turns_queries() or cls.scores_queries()

  def at_input(self, x, ctx):
    """Changes the embeddings [batch, length, features]."""
    del ctx
    return x

  def prepare(self, ctx):
    """Sets `ctx.bias` or `ctx.shared`, once per forward."""
    return ctx

  def at_query_key(self, query, key, ctx):
    """Changes query and key [batch, length, heads, head_dim]."""
    del ctx
    return query, key

  def at_scores(self, query, key, ctx, scale):
    """A score bias made of queries [batch, length, heads, head_dim], or None.

    Called by mixers whose `positions` this is; `scale` is what multiplies
    their dot products, which the bias has to carry itself.
    """
    del query, key, ctx, scale

  def longest(self) -> int | None:
    """Positions that the method can tell apart, or None for any number."""
    return None
