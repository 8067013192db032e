"""Masked-LM head: transform, norm, tied output with a bias (BERT)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.heads import heads
from jaxlm.layers.heads.base import gather
from jaxlm.layers.norms import norms
from jaxlm.layers.primitives import Initializer


@heads.register("masked_lm", paper="arXiv:1810.04805")
class MaskedLMHead(nn.Module):
  """norm(act(W h)) E^T + b over the token table E.

  Only the hidden states at `predict_positions` [batch, p] are projected where
  the batch has them, which saves most of the work of the vocabulary.

  Attributes:
    norm: spec of the norm, such as dict(kind="layer_norm", epsilon=1e-12).
    activation: a name of `primitives.ACTIVATIONS`.
    use_bias: bias of the transform.
    output_bias: a learned bias for each token.
  """

  norm: dict
  activation: str = "gelu"
  use_bias: bool = True
  output_bias: bool = True
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 logits [batch, p or length, vocab]."""
    del ctx
    if "predict_positions" in batch:
      hidden = gather(hidden, batch["predict_positions"])
    x = primitives.dense(
      embeddings.features,
      ("embed", None),
      init=self.initializer.kernel(),
      use_bias=self.use_bias,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name="transform",
    )(hidden)
    x = primitives.activation(self.activation)(x)
    x = norms.build(
      self.norm, dtype=self.dtype, param_dtype=self.param_dtype, name="norm"
    )(x)
    logits = embeddings.attend(x)
    if not self.output_bias:
      return logits
    bias = self.param(
      "output_bias",
      primitives.partitioned(nn.initializers.zeros, ("vocab",)),
      (logits.shape[-1],),
      self.param_dtype,
    )
    return logits + bias.reshape(1, 1, -1).astype(logits.dtype)
