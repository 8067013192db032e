"""A stack of layers between embeddings and heads."""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.context import Context, positions_of, vectors_of
from jaxlm.layers import primitives
from jaxlm.layers.positions.base import Positions
from jaxlm.models import models


@models.register("encoder", paper="arXiv:1810.04805")
class Encoder(nn.Module):
  """embeddings, positions, input norm, stack, final norm, heads.

  Attributes:
    embeddings: ids -> [batch, length, features], and back to logits.
    positions: hooks at the input and on the scores.
    stack: [batch, length, width] -> the same.
    heads: name -> head.
    input_norm: on the embeddings, or None.
    final_norm: after the stack, or None.
    dropout: rate on the embeddings.
  """

  # What objectives may ask for (`jaxlm.abilities`).
  can: ClassVar[tuple[str, ...]] = ("last_states",)

  embeddings: nn.Module
  positions: Positions
  stack: nn.Module
  heads: Mapping[str, nn.Module]
  input_norm: nn.Module | None = None
  final_norm: nn.Module | None = None
  dropout: float = 0.0

  def setup(self):
    self.drop = primitives.Dropout(self.dropout)

  def __call__(
    self, batch, *, train=False, capture=frozenset(), cache_length=0
  ):
    """Runs the model and all its heads.

    Args:
      batch: `inputs` [batch, length], and where given `segments`,
        `positions`, `types` and what the heads read.
      train: dropout on.
      capture: names kept in 'intermediates'.
      cache_length: keys and values kept for decoding, 0 for none.

    Returns:
      {"hidden": [batch, length, width], head name: output}.
    """
    hidden, ctx = self.encode(
      batch, train=train, capture=capture, cache_length=cache_length
    )
    outputs = {"hidden": hidden}
    for name, head in self.heads.items():
      outputs[name] = head(hidden, batch, self.embeddings, ctx)
    return outputs

  def encode(self, batch, *, train=False, capture=frozenset(), cache_length=0):
    """Returns hidden states [batch, length, width] and the context."""
    x, ctx = self.embed(
      batch, train=train, capture=capture, cache_length=cache_length
    )
    return self.through(x, ctx), ctx

  def embed(self, batch, *, train=False, capture=frozenset(), cache_length=0):
    """Returns what the stack reads, [batch, length, width], and the context."""
    ctx = self.context(
      batch, train=train, capture=capture, cache_length=cache_length
    )
    return self.enter(self.rows(batch, ctx), ctx), ctx

  def context(self, batch, *, train=False, capture=frozenset(), cache_length=0):
    """What layers read beside their input, made ready by the positions."""
    tokens = batch["inputs"]
    segments = batch.get("segments", jnp.ones_like(tokens))
    positions = batch.get("positions")
    if positions is None:
      positions = positions_of(segments)
    return self.positions.prepare(
      Context(
        segments=segments,
        positions=positions,
        memory=batch.get("memory"),
        memory_segments=batch.get("memory_segments"),
        vectors=vectors_of(batch),
        train=train,
        capture=frozenset(capture),
        cache_length=cache_length,
      )
    )

  def rows(self, batch, ctx):
    """What tokens and positions add up to, [batch, length, features]."""
    x = self.embeddings.lookup(batch["inputs"], batch.get("types"), ctx)
    return self.positions.at_input(x, ctx)

  def enter(self, x, ctx):
    """Rows, [batch, length, features], as the stack reads them."""
    x = x if self.input_norm is None else self.input_norm(x)
    x = self.drop(x, deterministic=not ctx.train)
    return self.embeddings.project(x)

  def through(self, x, ctx):
    """[batch, length, width] through the stack and the final norm."""
    x = self.stack(x, ctx)
    return x if self.final_norm is None else self.final_norm(x)

  def read(self, x, ctx):
    """States of another model, [batch, length, width], in place of tokens."""
    x = self.positions.at_input(x, ctx)
    x = x if self.input_norm is None else self.input_norm(x)
    return self.through(x, ctx)
