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

  def longest(self) -> int | None:
    """Positions that the method can tell apart, or None for any number."""
    return None
