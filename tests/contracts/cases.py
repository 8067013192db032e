"""Every registered layer part, behind one call: x, ctx -> array.

A part is built from its registry's `example` and from what assembly gives, so
a new kind is tested as soon as it is registered.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from jaxlm.layers.blocks import blocks
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.heads import heads
from jaxlm.layers.mixers import mixers
from jaxlm.layers.norms import norms
from jaxlm.layers.positions import positions
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer
from jaxlm.layers.stacks import stacks
from jaxlm.registry import Registry
from tests import tiny

FAMILIES: tuple[Registry, ...] = (
  blocks,
  embeddings,
  feedforwards,
  heads,
  mixers,
  norms,
  positions,
  stacks,
)
DROPOUTS = ("dropout", "feedforward_dropout")


@dataclasses.dataclass(frozen=True)
class Case:
  """One kind, with some fields set."""

  family: Registry
  kind: str
  fields: tuple = ()

  def __str__(self):
    extra = "".join(f"-{k}={v}" for k, v in self.fields)
    return f"{self.family.family}-{self.kind}{extra}"

  def has(self, field: str) -> bool:
    """Whether the kind has a field."""
    return field in self.family.fields(self.kind)

  def part(self, dtype=jnp.float32, **fields):
    """The part alone."""
    spec = {"kind": self.kind, **self.family.entry(self.kind).example}
    return self.family.build(
      {**spec, **dict(self.fields), **fields}, **given(dtype, self.family)
    )

  def module(self, dtype=jnp.float32, **fields):
    """A module called as (x [batch, length, width], ctx) -> array."""
    return _ADAPTERS[self.family.family](self.part(dtype, **fields))


CASES = tuple(
  Case(family, kind) for family in FAMILIES for kind in family.kinds()
) + tuple(
  Case(mixers, kind, (("causal", True),))
  for kind in mixers.kinds()
  if "causal" in mixers.fields(kind)
)


def given(dtype, family=None) -> dict:
  """What assembly knows when it builds a part."""
  base = dict(
    width=tiny.WIDTH,
    vocab_size=tiny.VOCAB,
    heads=tiny.HEADS,
    initializer=Initializer(std=0.3),
    dtype=dtype,
    param_dtype=jnp.float32,
  )
  if family is blocks:
    base |= dict(
      mixer=mixers.build({"kind": "attention", "heads": tiny.HEADS}, **base),
      feedforward=feedforwards.build({"kind": "mlp", "hidden": 48}, **base),
      cross=mixers.build(
        {"kind": "cross_attention", "heads": tiny.HEADS}, **base
      ),
      norm=lambda: norms.build({"kind": "layer_norm"}, dtype=dtype),
    )
  if family is stacks:  # of any layers; tests/models runs whole ones
    layer = lambda: feedforwards.build({"kind": "mlp", "hidden": 48}, **base)
    base |= dict(layers=(layer(), layer(), layer()), order=("a", "a", "a"))
  if family is heads:
    base |= dict(norm={"kind": "layer_norm"})
  return base


class _Plain(nn.Module):
  """Parts that take x and ctx."""

  part: nn.Module

  @nn.compact
  def __call__(self, x, ctx):
    return self.part(x, ctx)


class _Mixing(nn.Module):
  """Mixers may read what positions share."""

  part: nn.Module

  @nn.compact
  def __call__(self, x, ctx):
    if reads := getattr(self.part, "reads", ""):
      kinds = positions.kinds()
      kind = next(k for k in kinds if _part(positions, k).shares == reads)
      position = _example(positions, kind, x.dtype)
      x, ctx = position.at_input(x, ctx), position.prepare(ctx)
    return self.part(x, ctx)


def _part(family, kind):
  return family.entry(kind).build


def _example(family, kind, dtype, **fields):
  spec = {"kind": kind, **family.entry(kind).example, **fields}
  return family.build(spec, **given(dtype, family))


class _Norm(nn.Module):
  """Norms take x alone."""

  part: nn.Module

  @nn.compact
  def __call__(self, x, ctx):
    return self.part(x)


class _Embedded(nn.Module):
  """Embeddings read ids, here drawn once; x is added after them."""

  part: nn.Module

  @nn.compact
  def __call__(self, x, ctx):
    ids = tiny.batch()["inputs"]
    rows = self.part.project(self.part.lookup(ids, None, ctx))
    return rows + x.astype(rows.dtype)


class _Positioned(nn.Module):
  """Positions act at the input, on the scores or inside the mixer."""

  part: Positions

  @nn.compact
  def __call__(self, x, ctx):
    kind, fields = "attention", {"positions": self.part}
    if shares := self.part.shares:
      read = lambda kind: getattr(_part(mixers, kind), "reads", "")
      kind = next(k for k in mixers.kinds() if read(k) == shares)
      fields = {}
    mixer = _example(mixers, kind, x.dtype, **fields)
    ctx = self.part.prepare(ctx)
    return mixer(self.part.at_input(x, ctx), ctx)


class _Headed(nn.Module):
  """Heads read hidden states and a batch; dense, at every token."""

  part: nn.Module

  @nn.compact
  def __call__(self, x, ctx):
    table = embeddings.build({"kind": "token"}, **given(x.dtype))
    every = jnp.arange(x.shape[1])[None].repeat(x.shape[0], 0)
    return self.part(x, {"cls_positions": every}, table, ctx)


_ADAPTERS: dict[str, Callable] = {
  "block": _Plain,
  "embedding": _Embedded,
  "feedforward": _Plain,
  "head": _Headed,
  "mixer": _Mixing,
  "norm": _Norm,
  "position": _Positioned,
  "stack": _Plain,
}
