"""Is this token the text's own, or was it put there? (ELECTRA)"""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.heads import heads
from jaxlm.layers.primitives import Initializer


@heads.register("replaced_token", paper="arXiv:2003.10555")
class ReplacedTokenHead(nn.Module):
  """w act(W h + b) + c at every token; above 0 says replaced.

  Attributes:
    activation: a name of `primitives.ACTIVATIONS`.
  """

  activation: str = "gelu"
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 logits [batch, length, 1]."""
    del batch, embeddings, ctx
    return self.judged(hidden)

  def judged(self, hidden):
    """[batch, length, width] -> logits; called inside the head."""
    given = dict(
      init=self.initializer.kernel(),
      dtype=self.dtype,
      param_dtype=self.param_dtype,
    )
    width = hidden.shape[-1]
    x = primitives.dense(width, ("embed", None), name="transform", **given)(
      hidden
    )
    x = primitives.activation(self.activation)(x)
    x = primitives.dense(1, ("embed", None), name="score", **given)(x)
    return x.astype(jnp.promote_types(self.dtype, jnp.float32))
