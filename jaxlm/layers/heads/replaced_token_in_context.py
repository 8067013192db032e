"""A replaced token, seen beside the state of its text (DeBERTaV3)."""

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict

from jaxlm.layers.heads import heads
from jaxlm.layers.heads.base import gather
from jaxlm.layers.heads.replaced_token import ReplacedTokenHead
from jaxlm.layers.norms import norms


@heads.register("replaced_token_in_context", paper="arXiv:2111.09543")
class ReplacedTokenInContextHead(ReplacedTokenHead):
  """ELECTRA's head over norm(h + h_first), as DeBERTaV3's release has it.

  h_first is the state of the first token of the same document.

  Attributes:
    norm: spec of the norm.
  """

  norm: dict = FrozenDict(kind="layer_norm")

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 logits [batch, length, 1]."""
    del batch, embeddings
    here = jnp.arange(hidden.shape[1])[None, :]
    x = hidden + gather(hidden, here - ctx.positions)
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    return self.judged(norms.build(self.norm, name="norm", **types)(x))
