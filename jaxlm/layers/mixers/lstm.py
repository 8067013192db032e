"""A long short-term memory over the row (ELMo)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.mixers import mixers
from jaxlm.layers.mixers._lstm_cell import LSTMCell
from jaxlm.layers.primitives import Initializer


@mixers.register(
  "lstm",
  paper="arXiv:1802.05365",
  example={"cells": 24, "width": 32, "norm": {"kind": "layer_norm"}},
)
class LSTM(nn.Module):
  """x [batch, length, features] -> states [batch, length, width].

  Looks back only, by a loop over the tokens; see `LSTMCell` for a step.
  States begin at 0 in every document, so the part is safe for packed rows.

  Attributes:
    width: of the model and of the states.
    cells: of the memory, 4,096 in ELMo.
    clip: largest memory and projection; 0 for no limit.
    norm: spec of a norm on the states, which the next step reads too
      (ELMo-C), or None.
    dropout: rate on the states, the same features at all tokens of a row.
  """

  always_causal: ClassVar[bool] = True
  score_share: ClassVar[float] = 0.0

  width: int
  cells: int
  clip: float = 3.0
  norm: Mapping[str, Any] | None = None
  dropout: float = 0.0
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, ctx):
    if ctx.cache_length:
      raise errors.UserError(
        "mixer 'lstm' cannot decode with kept keys, of which it has none: "
        "take 'attention' for a model that generates."
      )
    segments = ctx.segments
    before = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    begins = (segments != before)[..., None]
    rows, types = x.shape[0], dict(param_dtype=self.param_dtype)
    wide = jnp.promote_types(self.dtype, jnp.float32)
    start = (
      jnp.zeros((rows, self.width), self.dtype),
      jnp.zeros((rows, self.cells), wide),
    )
    kept = primitives.Dropout(self.dropout)(
      jnp.ones((rows, self.width), self.dtype), deterministic=not ctx.train
    )
    loop = nn.scan(
      LSTMCell,
      variable_broadcast="params",
      split_rngs={"params": False},
      in_axes=(1, nn.broadcast),
      out_axes=1,
    )(
      self.width,
      self.cells,
      clip=self.clip,
      norm=self.norm,
      initializer=self.initializer,
      dtype=self.dtype,
      name="cell",
      **types,
    )
    return loop(start, (self._inputs(x), begins), kept)[1]

  def _inputs(self, x):
    """What x adds to the gates, with their biases [batch, length, 4 cells]."""
    y = primitives.dense_of(
      self,
      4 * self.cells,
      ("embed", "mlp"),
      self.initializer.kernel(),
      "input",
      use_bias=False,
    )(x)
    bias = self.param(
      "bias",
      primitives.partitioned(_remembering, ("mlp",)),
      (4 * self.cells,),
      self.param_dtype,
    )
    return y + bias.astype(self.dtype).reshape(1, 1, -1)


def _remembering(key, shape, dtype=jnp.float32):
  """Biases that start at 1 for forget gates, at 0 for others."""
  del key
  return jnp.zeros((shape[0] // 4, 4), dtype).at[:, 1].set(1).reshape(shape)
