"""DeBERTa's positions: a table of distances that all layers read."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.norms import norms
from jaxlm.layers.positions import positions
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer
from jaxlm.layers.relative import RELATIVE, RelativeTable


@positions.register(
  "disentangled",
  paper="arXiv:2006.03654",
  example={
    "width": 32,
    "buckets": 8,
    "max_distance": 32,
    "norm": {"kind": "layer_norm"},
    "max_length": 32,
    "biased_input": True,
  },
)
class DisentangledPositions(Positions):
  """Puts a table of relative positions into `ctx.shared`.

  The mixer `disentangled_attention` compares its rows with queries and keys.

  Attributes:
    width: width of the tables.
    buckets: distances up to half of it have rows of their own, longer ones
      share rows logarithmically, 2 * buckets rows (v2, v3: 256); 0: each
      distance has its own, 2 * max_distance rows (v1).
    max_distance: distances from here on share a row.
    norm: spec of a norm over the relative table (v2, v3), or None (v1).
    max_length: rows of a table of absolute positions, for the mask decoder
      or `biased_input`; None for no such table.
    biased_input: add absolute positions to the embeddings.
  """

  shares: ClassVar[str] = RELATIVE

  width: int
  buckets: int = 256
  max_distance: int = 512
  norm: Mapping[str, Any] | None = None
  max_length: int | None = None
  biased_input: bool = False
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  def setup(self):
    self._check()
    table = primitives.partitioned(
      self.initializer.kernel(), ("length", "embed")
    )
    rows = 2 * (self.buckets or self.max_distance)
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    self.relative = self.param(
      "relative", table, (rows, self.width), self.param_dtype
    )
    if self.norm:
      self.relative_norm = norms.build(self.norm, **types)
    if self.max_length:
      self.table = self.param(
        "table", table, (self.max_length, self.width), self.param_dtype
      )

  def prepare(self, ctx):
    """Adds the table to `ctx.shared`."""
    rows = self.relative.astype(self.dtype)
    if self.norm:
      rows = self.relative_norm(self.relative)
    made = RelativeTable(rows, self.buckets, self.max_distance)
    return ctx.replace(shared={**(ctx.shared or {}), RELATIVE: made})

  def at_input(self, x, ctx):
    """x [batch, length, width], plus absolute positions where asked for.

    Raises:
      UserError: embeddings of another width than the model's.
    """
    if not self.biased_input:
      return x
    rows = self.absolute(ctx)
    if rows.shape[-1] != x.shape[-1]:
      raise errors.UserError(
        "position 'disentangled' adds rows of the model's width "
        f"{rows.shape[-1]} to embeddings of {x.shape[-1]} columns: set "
        "biased_input=False, or take embeddings as wide as the model."
      )
    return x + rows

  def absolute(self, ctx):
    """Rows of the absolute table, [batch, length, width]."""
    return self.table[ctx.positions].astype(self.dtype)

  def longest(self):
    """The length of the absolute table."""
    return self.max_length

  def _check(self):
    if self.biased_input and not self.max_length:
      raise errors.UserError(
        "position 'disentangled': biased_input=True adds absolute positions, "
        "but max_length is unset; give the rows of their table, such as 512."
      )
    if self.buckets and not 2 < self.buckets < 2 * self.max_distance - 2:
      raise errors.UserError(
        f"position 'disentangled': buckets={self.buckets} with "
        f"max_distance={self.max_distance}; half of the buckets serve one "
        "distance each, and that half is to be less than max_distance - 1."
      )
