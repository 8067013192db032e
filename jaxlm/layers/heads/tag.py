"""A class for every token (BERT's tagging head)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.heads import heads
from jaxlm.layers.primitives import Initializer


@heads.register("tag", paper="arXiv:1810.04805", example={"classes": 3})
class TaggingHead(nn.Module):
  """dropout, then a dense map, at every token.

  Attributes:
    classes: tags.
    dropout: rate on the hidden states.
  """

  classes: int
  dropout: float = 0.0
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 logits [batch, length, classes]."""
    del batch, embeddings
    x = nn.Dropout(self.dropout, deterministic=not ctx.train)(hidden)
    out = primitives.dense(
      self.classes,
      ("embed", None),
      init=self.initializer.kernel(),
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="output",
    )
    return out(x).astype(jnp.promote_types(self.dtype, jnp.float32))
