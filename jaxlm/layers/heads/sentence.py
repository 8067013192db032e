"""Heads that read one state a sentence: classes and scores."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict

from jaxlm.layers import primitives, told
from jaxlm.layers.heads import heads
from jaxlm.layers.heads.base import pooled, sentences
from jaxlm.layers.primitives import Initializer


class SentenceHead(nn.Module):
  """dropout, optional pooler tanh(W h), dropout, W_out, at `cls_positions`.

  Attributes:
    classes: outputs of the head.
    pooler: put tanh(W h) before the output (BERT and RoBERTa).
    pooler_activation: in place of tanh, a name of `primitives.ACTIVATIONS`.
    pooler_bias: bias of the pooler's map.
    pooler_norm: a norm after the pooler's activation (ModernBERT).
    norm: spec of that norm.
    dropout: rate before each dense map; on the pooled state alone where the
      pooler is BERT's own (`input_dropout=False`).
    input_dropout: also drop the state that the pooler reads (RoBERTa).
  """

  # The states that it reads: those at these places, or the first.
  places: ClassVar[str] = "cls_positions"

  classes: int
  pooler: bool = True
  pooler_activation: str = "tanh"
  pooler_bias: bool = True
  pooler_norm: bool = False
  norm: dict = FrozenDict(kind="layer_norm")
  dropout: float = 0.0
  input_dropout: bool = False
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 [batch, k, classes]."""
    del embeddings
    drop = functools.partial(
      primitives.Dropout(self.dropout), deterministic=not ctx.train
    )
    x = sentences(hidden, batch)
    if self.pooler:
      x = pooled(self, drop(x) if self.input_dropout else x)
    x = drop(x)
    out = primitives.dense_of(
      self, self.classes, (None, None), self.initializer.kernel(), "output"
    )
    return out(x).astype(jnp.promote_types(self.dtype, jnp.float32))


@heads.register("classify", paper="arXiv:1810.04805", example={"classes": 3})
class ClassificationHead(SentenceHead):
  """Logits of classes."""

  told = staticmethod(told.classes)


@heads.register("regress", paper="arXiv:1810.04805", example={"classes": 1})
class RegressionHead(SentenceHead):
  """Scores; one unless `classes` says otherwise."""

  classes: int = 1
