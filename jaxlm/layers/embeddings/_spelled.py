"""What embeddings that spell tokens share: no table, rows of distinct ids."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import told


class Tableless(nn.Module):
  """Embeddings without a table of tokens that an output could be tied to.

  Attributes:
    vocab_size: tokens of the vocabulary.
    width: width of the model.
  """

  keeps_table: ClassVar[bool] = False

  vocab_size: int
  width: int

  @property
  def features(self) -> int:
    """Columns that `attend` compares with: there are none."""
    return 0

  def attend(self, x):
    """x [..., 0] -> logits of nothing, zeros [..., vocab_size].

    Raises:
      UserError: x has columns, which a table would have to be tied to.
    """
    if x.shape[-1]:
      raise errors.UserError(
        f"{type(self).__name__} has no table that an output could be tied to: "
        "take a head with a table of its own (masked_lm: 'untied', set to the "
        "model's width)."
      )
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.zeros((*x.shape[:-1], self.vocab_size), wide)


class Spelled(Tableless):
  """Rows made of the texts of tokens, which subclasses' `rows` compute.

  Attributes:
    vocab_size: tokens of the vocabulary.
    width: width of the model.
    vocabulary: the text of every token, which the tokenizer tells; a token
      beyond it is spelled as its id.
  """

  told = staticmethod(told.vocabulary)

  vocabulary: tuple[str, ...] = ()

  @property
  def looked_up(self) -> int:
    """Width of what `lookup` returns."""
    return self.width

  def lookup(self, tokens, types=None, ctx=None):
    """tokens [batch, length] -> [batch, length, looked_up].

    Each token of the vocabulary is made once where a batch holds more.
    """
    del types, ctx
    if tokens.size > self.vocab_size:
      return self.rows(jnp.arange(self.vocab_size))[tokens]
    return self.rows(tokens.reshape(-1)).reshape(*tokens.shape, -1)

  def project(self, x):
    """[..., width] -> [..., width]: the same."""
    return x

  def texts(self) -> tuple[str, ...]:
    """The vocabulary.

    Raises:
      UserError: it is larger than the model's.
    """
    if len(self.vocabulary) > self.vocab_size:
      raise errors.UserError(
        f"{type(self).__name__}: the vocabulary has {len(self.vocabulary)} "
        f"tokens, but vocab_size is {self.vocab_size}."
      )
    return tuple(self.vocabulary)
