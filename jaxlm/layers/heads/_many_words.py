"""What heads share that score targets among many words themselves."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import context
from jaxlm.layers.heads import base
from jaxlm.layers.primitives import Initializer
from jaxlm.types import Losses


class ManyWords(nn.Module):
  """In training `Losses` of the targets, else the whole softmax.

  A subclass makes its parameters in `weights` and computes `whole` and `nats`
  with them.

  Attributes:
    directions: 2 for both neighbours in a `bidirectional_lm` model.
    output_bias: a learned bias for each entry.
  """

  directions: int = 1
  output_bias: bool = False
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 [batch, length, (2,) vocab], or `Losses`.

    Raises:
      UserError: fields that do not fit the vocabulary.
    """
    states = base.by_direction(hidden, self.directions)
    weights = self.weights(states.shape[-1], embeddings.vocab_size)
    if not (ctx.train and "targets" in batch):
      return self.whole(states, weights)
    labels, counted = context.neighbours(batch, self.directions)
    labels = jnp.where(counted > 0, labels, 0)
    nats = self.nats(states, labels, weights)
    return Losses(nats.reshape(labels.shape))

  def weights(self, width: int, vocab: int) -> Any:
    """Parameters for states of a width and a vocabulary."""
    raise NotImplementedError

  def whole(self, states, weights):
    """Scores or log p of every word, [batch, length, (2,) vocab]."""
    raise NotImplementedError

  def nats(self, states, labels, weights):
    """-log p, or its estimate, float32 [n], of n labels.

    Args:
      states: [batch, length, (2,) width].
      labels: int32 [batch, length, (2)], n in all.
      weights: of `weights`.
    """
    raise NotImplementedError
