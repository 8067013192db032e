"""A row of a table for each token, and one for its sentence (BERT)."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.primitives import Initializer


@embeddings.register(
  "token", paper="arXiv:1810.04805", example={"vocab_size": 64, "width": 32}
)
class TokenEmbeddings(nn.Module):
  """Token table, tied to the output, and sentence types.

  Attributes:
    vocab_size: tokens of the vocabulary.
    width: width of the model.
    types: rows of the sentence table; 0 for none.
    pad_to_multiple: the table is padded to a multiple of this, so that it
      divides over devices; padded rows are never predicted.
  """

  vocab_size: int
  width: int
  types: int = 0
  pad_to_multiple: int = 1
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @property
  def features(self) -> int:
    """Width of a row of the table, which `attend` compares with."""
    return self.width

  @property
  def looked_up(self) -> int:
    """Width of what `lookup` returns."""
    return self.features

  def setup(self):
    table = primitives.partitioned(self.initializer.table(), ("vocab", "embed"))
    step = self.pad_to_multiple
    rows = -(-self.vocab_size // step) * step
    self.table = self.param(
      "table", table, (rows, self.features), self.param_dtype
    )
    if self.types:
      self.type_table = self.param(
        "type_table",
        primitives.partitioned(self.initializer.kernel(), (None, "embed")),
        (self.types, self.looked_up),
        self.param_dtype,
      )

  def lookup(self, tokens, types=None, ctx=None):
    """tokens, types [batch, length] -> [batch, length, features].

    `ctx` tells embeddings that look at neighbours where documents end.
    """
    del ctx
    # Gather, then cast: the gradient of a row is a sum over tokens, and a
    # bfloat16 sum stops growing after some hundreds of them.
    x = self.table[tokens].astype(self.dtype)
    return x + self.type_rows(tokens, types) if self.types else x

  def type_rows(self, tokens, types):
    """Rows of the sentence table [batch, length, looked_up]."""
    types = jnp.zeros_like(tokens) if types is None else types
    return self.type_table[types].astype(self.dtype)

  def project(self, x):
    """[..., features] -> [..., width]: the same here."""
    return x

  def attend(self, x):
    """[..., features] -> float32 logits [..., rows], -inf at padded rows."""
    wide = jnp.promote_types(self.dtype, jnp.float32)
    logits = jnp.einsum(
      "...d,vd->...v",
      x.astype(self.dtype),
      self.table.astype(self.dtype),
      preferred_element_type=wide,
    )
    rows = self.table.shape[0]
    if rows == self.vocab_size:
      return logits
    real = jnp.arange(rows) < self.vocab_size
    real = real.reshape((1,) * (logits.ndim - 1) + (rows,))
    return jnp.where(real, logits, jnp.finfo(wide).min)
