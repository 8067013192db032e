"""Masked-LM head: transform, norm, tied output with a bias (BERT)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.heads import base, heads
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
    untied: columns of an output matrix of its own, to the right of E (384 in
      MobileBERT) or in its place (the whole width in EELBERT, where there is
      no E).
  """

  # The states that it reads: those at these places, where the batch has them.
  places: ClassVar[str] = "predict_positions"
  tied: ClassVar[bool] = True

  norm: dict
  activation: str = "gelu"
  use_bias: bool = True
  output_bias: bool = True
  untied: int = 0
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 logits [batch, p or length, vocab].

    Raises:
      UserError: neither the table nor `untied` gives a column.
    """
    del ctx
    if not embeddings.features + self.untied:
      raise errors.UserError(
        "The embeddings have no table to tie the output to: set the masked_lm "
        "head's 'untied' to the model's width."
      )
    if "predict_positions" in batch:
      hidden = base.gather(hidden, batch["predict_positions"])
    x = primitives.dense_of(
      self,
      embeddings.features + self.untied,
      ("embed", None),
      self.initializer.kernel(),
      "transform",
      use_bias=self.use_bias,
    )(hidden)
    x = primitives.activation(self.activation)(x)
    x = norms.build(
      self.norm, dtype=self.dtype, param_dtype=self.param_dtype, name="norm"
    )(x)
    tied, own = jnp.split(x, [embeddings.features], axis=-1)
    logits = embeddings.attend(tied)
    if self.untied:
      logits = logits + self._own(own, logits)
    return base.with_bias(self, logits) if self.output_bias else logits

  def _own(self, x, logits):
    """x [batch, p, untied] against the head's matrix, shaped like logits."""
    table = self.param(
      "output_table",
      primitives.partitioned(self.initializer.kernel(), ("vocab", "embed")),
      (logits.shape[-1], self.untied),
      self.param_dtype,
    )
    return jnp.einsum(
      "...d,vd->...v",
      x.astype(self.dtype),
      table.astype(self.dtype),
      preferred_element_type=logits.dtype,
    )
