"""Tokens of a hidden span from the two tokens around it (SpanBERT)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.heads import base, heads
from jaxlm.layers.norms import norms
from jaxlm.layers.primitives import Initializer


@heads.register("span_boundary", paper="arXiv:1907.10529")
class SpanBoundaryHead(nn.Module):
  """E norm(act(W2 norm(act(W1 [left; right; place])))) + b (section 3.2).

  Reads `boundary_positions` [batch, p, 2], the visible tokens left and right
  of a span, and `boundary_offsets` [batch, p], a token's place in it from 0;
  where a batch has none, each token counts as a span of its own.

  Attributes:
    norm: spec of both norms.
    targets: places of a span that have a row of their own, 20 in the released
      code; at least `data.corruption.boundaries`.
    place_width: width of these rows.
    activation: a name of `primitives.ACTIVATIONS`.
  """

  pretraining_only: ClassVar[bool] = True  # exports leave it out
  tied: ClassVar[bool] = True

  norm: dict
  targets: int = 20
  place_width: int = 200
  activation: str = "gelu"
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden, batch, embeddings, ctx):
    """Returns float32 logits [batch, p or length, vocab].

    Raises:
      UserError: embeddings without a table that the output could be tied to.
    """
    if not embeddings.features:
      raise errors.UserError(
        "The span_boundary head's output is tied to the token table, which "
        "these embeddings do not have: take embeddings of kind='token'."
      )
    ends, offsets = _boundaries(batch, ctx)
    places = self.param(
      "places",
      primitives.partitioned(self.initializer.kernel(), (None, None)),
      (self.targets, self.place_width),
      self.param_dtype,
    )
    x = jnp.concatenate(
      [
        base.gather(hidden, ends[..., 0]),
        base.gather(hidden, ends[..., 1]),
        places[offsets].astype(hidden.dtype),
      ],
      axis=-1,
    )
    x = self._layer(x, hidden.shape[-1], "inner")
    x = self._layer(x, embeddings.features, "outer")
    return base.with_bias(self, embeddings.attend(x))

  def _layer(self, x, width, name):
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    x = primitives.dense(
      width,
      ("embed", None),
      init=self.initializer.kernel(),
      name=name,
      **types,
    )(x)
    x = primitives.activation(self.activation)(x)
    return norms.build(self.norm, name=f"{name}_norm", **types)(x)


def _boundaries(batch, ctx):
  """Positions of the ends [batch, p, 2] and offsets [batch, p]."""
  if "boundary_positions" in batch:
    return batch["boundary_positions"], batch["boundary_offsets"]
  # Neighbours in the same document; at its edge a token stands for them.
  segments = ctx.segments
  length = segments.shape[1]
  here = jnp.broadcast_to(jnp.arange(length)[None, :], segments.shape)
  padded = jnp.pad(segments, ((0, 0), (1, 1)), constant_values=-1)
  left = jnp.where(padded[:, :-2] == segments, here - 1, here)
  right = jnp.where(padded[:, 2:] == segments, here + 1, here)
  return jnp.stack([left, right], axis=-1), jnp.zeros_like(here)
