"""A vector for each sentence (SimCSE: Gao et al., arXiv:2104.08821)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import pooling as pooling_lib
from jaxlm.layers import primitives
from jaxlm.layers.heads import heads
from jaxlm.layers.primitives import Initializer

PROJECTIONS = ("none", "training", "kept")


@heads.register(
  "embed", paper="arXiv:2104.08821", example={"projection": "kept"}
)
class EmbeddingHead(nn.Module):
  """Pooled states, maybe through tanh(W h + b).

  Attributes:
    pooling: 'cls', the state at `cls_positions` (the first token where there
      are none), or 'mean' over the sentence's segment. The release also pools
      two layers, which `jaxlm embed` does without a head.
    projection: 'none'; 'kept', a fresh dense map and tanh (supervised
      SimCSE); 'training', the same left out afterwards (unsupervised).
  """

  # No class of transformers has it: exports keep it in files of its own.
  pretraining_only: ClassVar[bool] = True

  pooling: str = "cls"
  projection: str = "none"
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  def __post_init__(self):
    for name, known in (
      ("pooling", pooling_lib.POOLINGS),
      ("projection", PROJECTIONS),
    ):
      if getattr(self, name) not in known:
        raise errors.unknown(
          f"An embed head's {name} cannot be", getattr(self, name), known
        )
    super().__post_init__()

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 [batch, k, width], not normalised."""
    del embeddings
    places = batch.get("cls_positions")
    if places is None:
      places = jnp.zeros((hidden.shape[0], 1), jnp.int32)
    x = pooling_lib.pool(hidden, ctx.segments, places, self.pooling)
    if self.projection == "none":
      return x
    projected = primitives.dense_of(
      self,
      x.shape[-1],
      ("embed", None),
      self.initializer.kernel(),
      "projection",
    )(x.astype(self.dtype))
    projected = jnp.tanh(projected).astype(x.dtype)
    return projected if ctx.train or self.projection == "kept" else x
