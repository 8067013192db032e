"""What embeddings share whose vectors have a width of their own."""

import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.embeddings._spelled import Tableless
from jaxlm.layers.norms import norms
from jaxlm.layers.primitives import Initializer


class Projected(Tableless):
  """norm(W v + b) of vectors v, which a subclass looks up.

  Attributes:
    vector_width: of v.
    norm: spec of the norm behind W, or None.
  """

  vector_width: int = 300
  norm: dict | None = None
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @property
  def looked_up(self) -> int:
    """Width of what `lookup` returns."""
    return self.vector_width

  def setup(self):
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    self.projection = primitives.dense(
      self.width, ("embed", "mlp"), init=self.initializer.kernel(), **types
    )
    if self.norm:
      self.projected_norm = norms.build(self.norm, **types)

  def project(self, x):
    """[..., vector_width] -> [..., width]."""
    x = self.projection(x)
    return self.projected_norm(x) if self.norm else x
