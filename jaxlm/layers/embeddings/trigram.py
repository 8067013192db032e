"""Narrow rows of a token and its two neighbours, widened (MobileBERT)."""

from typing import ClassVar

import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.embeddings.token import TokenEmbeddings


@embeddings.register(
  "trigram",
  paper="arXiv:2004.02984",
  example={"vocab_size": 64, "width": 32, "table_width": 16},
)
class TrigramEmbeddings(TokenEmbeddings):
  """W [next; this; previous] + b, each a row of the table (section 3.1).

  A neighbour in another document or in padding is 0, so that rows may be
  packed.

  Attributes:
    table_width: width of the token table and of what a head compares with it;
      sentence types have the model's width.
    parity: as released: neighbours are 0 at the ends of the row alone, so a
      document sees one token of the next document or of the padding.
  """

  looks_ahead: ClassVar[bool] = True

  table_width: int = 128
  parity: bool = False

  @property
  def leaks(self) -> str:
    """Why rows may not be packed; '' where they may."""
    if not self.parity:
      return ""
    return (
      "with embeddings.parity a token sees its neighbours across the border "
      "between documents (parity=False stops at it)."
    )

  @property
  def features(self) -> int:
    """Width of a row of the token table."""
    return self.table_width

  @property
  def looked_up(self) -> int:
    """Width of what `lookup` returns."""
    return self.width

  def setup(self):
    super().setup()
    self.projection = primitives.dense_of(
      self, self.width, (None, "embed"), self.initializer.kernel()
    )

  def lookup(self, tokens, types=None, ctx=None):
    """tokens, types [batch, length] -> [batch, length, width].

    Raises:
      UserError: while decoding, which knows no next token.
    """
    if ctx is not None and ctx.cache_length:
      raise errors.UserError(
        "embedding 'trigram' reads the next token, which decoding does not "
        "know: take kind='token'."
      )
    x = self.table[tokens].astype(self.dtype)
    joined = self._joined(tokens, ctx)
    after = jnp.pad(x[:, 1:] * joined, ((0, 0), (0, 1), (0, 0)))
    before = jnp.pad(x[:, :-1] * joined, ((0, 0), (1, 0), (0, 0)))
    x = self.projection(jnp.concatenate([after, x, before], axis=-1))
    return x + self.type_rows(tokens, types) if self.types else x

  def _joined(self, tokens, ctx):
    """[batch, length - 1, 1]: 1 where a token and the next see each other."""
    if ctx is None or self.parity:
      return jnp.ones((*tokens[:, 1:].shape, 1), self.dtype)
    first, second = ctx.segments[:, :-1], ctx.segments[:, 1:]
    joined = (first == second) & (first > 0)
    return joined[..., None].astype(self.dtype)
