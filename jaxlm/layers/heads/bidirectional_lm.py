"""Next and previous tokens, from two directions that do not meet (ELMo)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers.heads import base, heads
from jaxlm.layers.primitives import Initializer


def directions(hidden):
  """The states of both directions, of a `bidirectional_lm` model's `hidden`.

  Args:
    hidden: [batch, length, 2 * width].

  Returns:
    [batch, length, 2, width]: forward, backward.
  """
  return base.by_direction(hidden, 2)


@heads.register(
  "bidirectional_lm", paper="arXiv:1802.05365", example={"tied": False}
)
class BidirectionalLMHead(nn.Module):
  """h E^T + b for the states h of either direction, with one E for both.

  Attributes:
    tied: E is the token table; else the head's own.
    output_bias: a learned bias for each token.
  """

  # Of each token of a row; for counting FLOPs.
  predictions: ClassVar[int] = 2

  tied: bool = True
  output_bias: bool = True
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 logits [batch, length, 2, vocab]: next, previous.

    Raises:
      UserError: `tied` to embeddings without a table of the states' width.
    """
    del batch, ctx
    states = directions(hidden)
    if self.tied and embeddings.features != states.shape[-1]:
      raise errors.UserError(
        "head 'bidirectional_lm' is tied to the embeddings, whose table has "
        f"{embeddings.features} columns, but a direction's states have "
        f"{states.shape[-1]}: set config.model.heads.NAME.tied=False."
      )
    logits = (
      embeddings.attend(states)
      if self.tied
      else base.own_logits(self, states, embeddings.vocab_size)
    )
    return base.with_bias(self, logits) if self.output_bias else logits
