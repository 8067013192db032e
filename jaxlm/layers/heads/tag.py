"""A class for every token (BERT's tagging head)."""

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict

from jaxlm.layers import primitives, told
from jaxlm.layers.heads import heads
from jaxlm.layers.heads.base import pooled
from jaxlm.layers.primitives import Initializer


@heads.register("tag", paper="arXiv:1810.04805", example={"classes": 3})
class TaggingHead(nn.Module):
  """Optional pooler, dropout, then a dense map, at every token.

  Attributes:
    classes: tags.
    pooler: put norm(act(W h)) before the output (ModernBERT).
    pooler_activation: a name of `primitives.ACTIVATIONS`.
    pooler_bias: bias of the pooler's map.
    pooler_norm: a norm after the pooler's activation.
    norm: spec of that norm.
    dropout: rate before the output map.
  """

  told = staticmethod(told.classes)

  classes: int
  pooler: bool = False
  pooler_activation: str = "tanh"
  pooler_bias: bool = True
  pooler_norm: bool = False
  norm: dict = FrozenDict(kind="layer_norm")
  dropout: float = 0.0
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 logits [batch, length, classes]."""
    del batch, embeddings
    x = pooled(self, hidden) if self.pooler else hidden
    x = primitives.Dropout(self.dropout)(x, deterministic=not ctx.train)
    out = primitives.dense_of(
      self, self.classes, ("embed", None), self.initializer.kernel(), "output"
    )
    return out(x).astype(jnp.promote_types(self.dtype, jnp.float32))
