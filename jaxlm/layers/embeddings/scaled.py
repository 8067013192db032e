"""Token rows times the root of the width (Vaswani et al., section 3.4)."""

import math

from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.embeddings.token import TokenEmbeddings


@embeddings.register(
  "scaled_token",
  paper="arXiv:1706.03762",
  example={"vocab_size": 64, "width": 32},
)
class ScaledTokenEmbeddings(TokenEmbeddings):
  """sqrt(width) * table[token]; the tied output reads the table as it is."""

  def lookup(self, tokens, types=None, ctx=None):
    """tokens, types [batch, length] -> [batch, length, features]."""
    return super().lookup(tokens, types, ctx) * math.sqrt(self.features)
