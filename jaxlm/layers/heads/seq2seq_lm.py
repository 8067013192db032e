"""Next-token head of encoder-decoders (T5, BART)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.heads import base, heads
from jaxlm.layers.primitives import Initializer


@heads.register("seq2seq_lm", paper="arXiv:1910.10683")
class Seq2SeqHead(nn.Module):
  """h E^T over the token table E, or over a table of its own.

  Attributes:
    tied: E is the token table; else the head's own (T5 v1.1).
    scaled: hidden states are divided by sqrt(width) first, as T5 v1.0 does,
      whose token table starts with variance 1.
    output_bias: a bias for each token (BART's `final_logits_bias`).
  """

  tied: bool = True
  scaled: bool = False
  output_bias: bool = False
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 logits [batch, length, vocab]."""
    del batch, ctx
    if self.scaled:
      hidden = hidden * hidden.shape[-1] ** -0.5
    logits = (
      embeddings.attend(hidden)
      if self.tied
      else base.own_logits(self, hidden, embeddings.vocab_size)
    )
    if not self.output_bias:
      return logits
    bias = self.param(
      "output_bias",
      primitives.partitioned(nn.initializers.zeros, (None, "vocab")),
      (1, embeddings.vocab_size),
      self.param_dtype,
    )
    padded = logits.shape[-1] - embeddings.vocab_size
    bias = jnp.pad(bias, ((0, 0), (0, padded)))
    return logits + bias[None].astype(logits.dtype)
