"""Next-token head: hidden states against a table of tokens (GPT-2, LLaMA)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers.heads import base, heads
from jaxlm.layers.primitives import Initializer


@heads.register("causal_lm", paper="Radford et al. 2019, GPT-2")
class CausalLMHead(nn.Module):
  """h E^T over the token table E, or over a table of its own, no bias.

  Attributes:
    tied: E is the token table; else the head's own (LLaMA).
  """

  tied: bool = True
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 logits [batch, length, vocab]."""
    del batch, ctx
    if self.tied:
      return embeddings.attend(hidden)
    return base.own_logits(self, hidden, embeddings.vocab_size)
