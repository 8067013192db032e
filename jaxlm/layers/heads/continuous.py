"""A vector for each place, in place of logits over a vocabulary.

Kumar and Tsvetkov, arXiv:1812.04616; ELMo-C (Li et al., TACL 2019): what is
predicted is compared with the frozen vector of the next word, so the output
costs the same however many words there are. The vectors are the data's
(`config.data.kind='word_vectors'`).
"""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives, told
from jaxlm.layers.heads import base, heads
from jaxlm.layers.primitives import Initializer


@heads.register(
  "continuous", paper="arXiv:1812.04616", example={"vector_width": 24}
)
class ContinuousHead(nn.Module):
  """W h + b, for each direction its own W.

  Attributes:
    vector_width: of the vectors; the data tell it where the config does not.
    directions: 2 for both neighbours in a `bidirectional_lm` model, whose
      directions share nothing, as ELMo-C trains them.
  """

  told = staticmethod(told.vector_width)

  vector_width: int = 300
  directions: int = 1
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 vectors [batch, length, (2,) vector_width]."""
    del batch, embeddings, ctx
    states = base.by_direction(hidden, self.directions)
    if self.directions == 1:
      return self._map(states, "forward")
    ways = enumerate(("forward", "backward"))
    return jnp.stack([self._map(states[:, :, i], n) for i, n in ways], axis=2)

  def _map(self, x, name):
    made = primitives.dense_of(
      self, self.vector_width, ("embed", None), self.initializer.kernel(), name
    )(x)
    return made.astype(jnp.promote_types(made.dtype, jnp.float32))
