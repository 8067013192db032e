"""Next-token head: the hidden states against the token table (GPT-2)."""

import flax.linen as nn

from jaxlm.layers.heads import heads


@heads.register("causal_lm", paper="Radford et al. 2019, GPT-2")
class CausalLMHead(nn.Module):
  """h E^T over the tied token table E, no bias."""

  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 logits [batch, length, vocab]."""
    del batch, ctx
    return embeddings.attend(hidden)
