"""A narrow token table and a projection to the model's width (ALBERT)."""

import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.embeddings.token import TokenEmbeddings


@embeddings.register(
  "factorized",
  paper="arXiv:1909.11942",
  example={"vocab_size": 64, "width": 32, "table_width": 16},
)
class FactorizedEmbeddings(TokenEmbeddings):
  """vocab * e + e * width parameters in place of vocab * width.

  Attributes:
    table_width: e, width of the tables, of the input norm and of what the
      masked-LM head compares with the table.
  """

  table_width: int = 128

  @property
  def features(self) -> int:
    """Width of a looked-up row."""
    return self.table_width

  def setup(self):
    super().setup()
    self.projection = primitives.dense_of(
      self, self.width, (None, "embed"), self.initializer.kernel()
    )

  def project(self, x) -> jnp.ndarray:
    """[..., table_width] -> [..., width]."""
    return self.projection(x)
