"""From the model spec of a config to a Linen module."""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers.blocks import blocks
from jaxlm.layers.embeddings import embeddings as embedding_parts
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.heads import heads as head_parts
from jaxlm.layers.mixers import mixers
from jaxlm.layers.norms import norms
from jaxlm.layers.positions import positions as position_parts
from jaxlm.layers.primitives import Initializer
from jaxlm.layers.stacks import stacks
from jaxlm.layers.stacks.shared import firsts
from jaxlm.layers.widened import Widened
from jaxlm.models import models

_KEYS = (
  "kind",
  "width",
  "vocab_size",
  "embeddings",
  "positions",
  "norm",
  "input_norm",
  "final_norm",
  "dropout",
  "layers",
  "order",
  "depth",
  "stack",
  "heads",
  "initializer",
)
# Keys of a model that hold heads; the latter those of its encoder.
HEADS = ("heads", "encoder_heads")
_NEEDED = ("kind", "width", "embeddings", "positions")
_LAYER_KEYS = ("block", "mixer", "feedforward")
# 'cross': what a decoder's layer reads an encoder by; 'width': the layer's own.
_SLOTS = (*_LAYER_KEYS, "cross", "width")


def build(
  spec: Mapping[str, Any], *, dtype=jnp.float32, embeddings=None, **given
):
  """Builds a model.

  Args:
    spec: `config.model`; see docs/design.md.
    dtype: of activations.
    embeddings: of a model that this one is part of, in place of its own.
    **given: what data tells: `vocab_size`, `classes`, and `param_dtype`.

  Raises:
    UserError: an unknown key, kind or field, or parts that do not fit.
  """
  part = models.entry(_kind(spec)).build
  if hasattr(part, "assemble"):  # made of several models
    return part.assemble(spec, dtype=dtype, **given)
  _check_keys(spec)
  order = layer_order(spec)
  given = surroundings(spec, dtype, len(order), **given)
  norm = norm_spec(spec)
  make_norm = functools.partial(
    norms.build, norm, dtype=dtype, param_dtype=given["param_dtype"]
  )
  dropout = spec.get("dropout", 0.0)
  with_dropout = given | {"dropout": dropout}
  inside = inside_mixers(spec)
  _check_scores(spec)
  _check_shared(spec)
  _check_widths(spec)
  layers = [
    _layer(spec["layers"][name], before, inside, norm=make_norm, **with_dropout)
    for name, before in zip(order, (spec["width"], *widths(spec)), strict=False)
  ]
  stack = spec.get("stack", {"kind": "sequential"})
  model = models.build(
    {"kind": spec["kind"]},
    embeddings=embeddings or embedding_parts.build(spec["embeddings"], **given),
    positions=position_parts.build(
      spec["positions"], **shared_heads(spec), **given
    ),
    stack=stacks.build(stack, layers=tuple(layers), order=order),
    heads=head_modules(spec, given),
    input_norm=make_norm() if spec.get("input_norm", False) else None,
    final_norm=make_norm() if spec.get("final_norm", False) else None,
    dropout=dropout,
  )
  if spec["kind"] == "decoder":
    check_causal(spec)
  return model


def surroundings(spec, dtype, depth: int, **given) -> dict[str, Any]:
  """What every part of a model is given: width, dtypes, initializer, ...

  Args:
    spec: of a model; sets `width`, and maybe `vocab_size` and `initializer`.
    dtype: of activations.
    depth: number of layers.
    **given: what the caller knows.
  """
  made = {"param_dtype": jnp.float32, **given}
  made["initializer"] = _initializer(spec.get("initializer", {}), depth)
  made |= {"width": spec["width"], "dtype": dtype}
  if "vocab_size" in spec:
    made["vocab_size"] = spec["vocab_size"]
  return made


def norm_spec(spec) -> dict[str, Any]:
  """The spec of a model's norms, checked: blocks build theirs later."""
  norm = dict(spec.get("norm", {"kind": "layer_norm"}))
  norms.check(norm)
  return norm


def head_modules(spec, given) -> dict[str, nn.Module]:
  """name -> head of a model; `given` by `surroundings`.

  Raises:
    UserError: also a head of other directions than the model has.
  """
  given = {"norm": norm_spec(spec), **given}
  given["dropout"] = spec.get("dropout", 0.0)
  heads = spec.get("heads", {}).items()
  made = {name: head_parts.build(head, **given) for name, head in heads}
  ways = getattr(models.entry(spec["kind"]).build, "directions", 1)
  for name, head in made.items():
    if getattr(head, "directions", ways) != ways:
      raise errors.UserError(
        f"config.model.heads.{name}.directions is {head.directions}, but a "
        f"model of kind '{spec['kind']}' has {ways}: a head that mixes "
        "directions, or splits one, would see what it is to predict. Set "
        f"directions={ways}."
      )
  return made


def towers(spec: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
  """name -> spec of the models that a model is made of; {"": spec} where one.

  The parameters of a tower lie under its name.
  """
  return dict(spec["towers"]) if "towers" in spec else {"": spec}


def leaks(module: nn.Module) -> dict[str, str]:
  """What keeps a model from reading several documents in a row.

  Args:
    module: a model, or any part.

  Returns:
    {class of a part: its `leaks`, one sentence}, empty where rows may be
    packed.
  """
  found = {}
  if dataclasses.is_dataclass(module):  # Linen modules are
    if reason := getattr(module, "leaks", ""):
      found[type(module).__name__] = reason
    inner = [getattr(module, f.name) for f in dataclasses.fields(module)]
    owner = getattr(module, "parent", None)
    inner = [value for value in inner if value is not owner]
  elif isinstance(module, Mapping):
    inner = list(module.values())
  else:
    inner = list(module) if isinstance(module, list | tuple) else []
  for value in inner:
    found |= leaks(value)
  return found


def layer_order(spec: Mapping[str, Any]) -> tuple[str, ...]:
  """The palette name of every layer; `depth` repeats `order` to that length.

  Raises:
    UserError: a name that is not in the palette, or no layers at all.
  """
  palette = spec.get("layers", {})
  order: Sequence[str] = tuple(spec.get("order", tuple(palette)))
  depth = spec.get("depth", 0) or len(order)
  for name in order:
    if name not in palette:
      raise errors.unknown(
        "config.model.order names a layer that config.model.layers has not,",
        name,
        palette,
      )
  if not order or depth < 1:
    raise errors.UserError(
      "config.model has no layers: give config.model.layers, such as "
      "dict(layer=dict(block=..., mixer=..., feedforward=...))."
    )
  return tuple(order[i % len(order)] for i in range(depth))


def widths(spec: Mapping[str, Any]) -> tuple[int, ...]:
  """The width of every layer: its own `width`, or the model's."""
  palette = spec["layers"]
  return tuple(
    palette[name].get("width", spec["width"]) for name in layer_order(spec)
  )


def runs(spec: Mapping[str, Any]) -> dict[str, int]:
  """How often each set of layer parameters computes, where it is shared.

  Returns:
    {"layers_0": 12} in ALBERT; {} where every layer has its own.
  """
  if spec.get("stack", {}).get("kind") != "shared":
    return {}
  uses = collections.Counter(firsts(layer_order(spec)))
  return {f"layers_{layer}": count for layer, count in uses.items()}


def _kind(spec):
  if "kind" not in spec:
    raise errors.UserError(
      "config.model has no 'kind', which every model needs; it has: "
      f"{', '.join(sorted(spec))}."
    )
  return spec["kind"]


def _check_keys(spec):
  for key in spec:
    if key not in _KEYS:
      raise errors.unknown("config.model has no key", key, _KEYS)
  for key in _NEEDED:
    if key not in spec:
      raise errors.UserError(
        f"config.model has no '{key}', which every model needs; it has: "
        f"{', '.join(sorted(spec))}."
      )
  for name, layer in spec.get("layers", {}).items():
    for key in layer:
      if key not in _SLOTS:
        raise errors.unknown(
          f"config.model.layers.{name} has no slot", key, _SLOTS
        )
    _check_slots(name, layer)


def _check_slots(name, layer):
  needed = list(_LAYER_KEYS)
  if "block" in layer:
    kind = blocks.check(layer["block"])
    if "feedforward" not in blocks.fields(kind):
      needed.remove("feedforward")
      if "feedforward" in layer:
        raise errors.UserError(
          f"config.model.layers.{name} has the slot 'feedforward', but its "
          f"block '{kind}' has none: leave it out."
        )
  for key in needed:
    if key not in layer:
      raise errors.UserError(
        f"config.model.layers.{name} has no '{key}'; a layer needs "
        f"{', '.join(needed)}."
      )


def _initializer(spec, depth) -> Initializer:
  known = [field.name for field in dataclasses.fields(Initializer)]
  for key in spec:
    if key not in known:
      raise errors.unknown("config.model.initializer has no key", key, known)
  return Initializer(**{"depth": depth, **spec})


def _layer(spec, before, inside, **given):
  """A layer behind one of the width `before`."""
  given["width"] = spec.get("width", given["width"])
  if before == given["width"]:
    return _block(spec, inside, **given)
  makers = {k: given[k] for k in ("initializer", "dtype", "param_dtype")}
  return Widened(_block(spec, inside, **given), given["width"], **makers)


def _block(spec, inside, **given):
  mixer = {**inside, **spec["mixer"]}
  # Rotary positions act inside the mixer and may differ between layers.
  if isinstance(mixer.get("positions"), Mapping):
    mixer["positions"] = _turning(mixer["positions"], given)
  # The model's dropout is the blocks'; mixers and feed-forwards have places
  # for dropout of their own, which a config sets by name.
  inner = {k: v for k, v in given.items() if k not in ("norm", "dropout")}
  inner["width"] = spec["block"].get("inner", given["width"])
  if "cross" in spec:
    _check_cross(spec["block"])
    given["cross"] = mixers.build(spec["cross"], **inner)
  if "feedforward" in spec:
    given["feedforward"] = feedforwards.build(spec["feedforward"], **inner)
  return blocks.build(
    spec["block"], mixer=mixers.build(mixer, **inner), **given
  )


def _check_cross(block):
  kind = blocks.check(block)
  if "cross" not in blocks.fields(kind):
    able = [k for k in blocks.kinds() if "cross" in blocks.fields(k)]
    raise errors.UserError(
      f"A layer has the slot 'cross', but its block '{kind}' reads no encoder; "
      f"blocks that do: {', '.join(able)}."
    )


def _turns(spec) -> bool:
  """Whether a position spec acts inside mixers."""
  part = position_parts.entry(position_parts.check(spec)).build
  return part.inside()


def _turning(spec, given):
  """Positions for inside a mixer.

  Raises:
    UserError: they act elsewhere, so a mixer would ignore them.
  """
  if not _turns(spec) and spec["kind"] != "none":
    raise errors.UserError(
      f"position '{spec['kind']}' does not act inside a mixer: give it as "
      "config.model.positions."
    )
  makers = {k: given[k] for k in ("initializer", "dtype", "param_dtype")}
  return position_parts.build(spec, **makers)


def inside_mixers(spec: Mapping[str, Any]) -> dict[str, Any]:
  """What config.model.positions gives to mixers that have none of their own.

  Raises:
    UserError: a mixer that positions cannot act in.
  """
  given = _turns(spec["positions"])
  for name, layer in spec["layers"].items():
    found = layer["mixer"].get("positions")
    found = found if isinstance(found, Mapping) else spec["positions"]
    _check_inside(f"config.model.layers.{name}.mixer", layer["mixer"], found)
  return {"positions": spec["positions"]} if given else {}


def _check_inside(where, mixer, position):
  """Raises UserError if a mixer lacks what positions act on."""
  kind = mixers.check(mixer)
  mixing = mixers.entry(kind).build
  part = position_parts.entry(position_parts.check(position)).build
  able = "positions" in mixers.fields(kind)
  compared = able and getattr(mixing, "turns", True)
  scored = able and getattr(mixing, "adds_bias", False)
  for acts, can, what in (
    (part.turns_queries(), compared, "acts on queries and keys"),
    (part.scores_queries(), scored, "makes scores of queries"),
  ):
    if acts and not can:
      raise errors.UserError(
        f"config.model.positions is '{position['kind']}', which {what}, but "
        f"{where} is '{kind}', which has none."
      )


def shared_heads(spec: Mapping[str, Any]) -> dict[str, int]:
  """The heads that all mixers share, for positions that act on scores."""
  counts = {
    layer["mixer"]["heads"]
    for layer in spec["layers"].values()
    if "heads" in layer["mixer"]
  }
  return {"heads": counts.pop()} if len(counts) == 1 else {}


def _check_scores(spec):
  kind = spec["positions"]["kind"]
  if not position_parts.entry(kind).build.on_scores:
    return
  for name, layer in spec["layers"].items():
    mixer = mixers.check(layer["mixer"])
    if not getattr(mixers.entry(mixer).build, "adds_bias", False):
      raise errors.UserError(
        f"config.model.positions is '{kind}', which adds to attention scores, "
        f"but config.model.layers.{name}.mixer is '{mixer}', which has none: "
        "take learned, sinusoidal or no positions."
      )
  _check_heads(spec)


def _check_heads(spec):
  """Raises UserError where one score bias would meet unlike heads."""
  kind = spec["positions"]["kind"]
  if "heads" not in position_parts.fields(kind):
    return
  found = {
    name: layer["mixer"]["heads"]
    for name, layer in spec["layers"].items()
    if "heads" in layer["mixer"]
  }
  for name, heads in found.items():
    wanted = spec["positions"].get("heads", next(iter(found.values())))
    if heads != wanted:
      raise errors.UserError(
        f"config.model.positions is '{kind}', a score bias of {wanted} heads, "
        f"but config.model.layers.{name}.mixer has {heads}: all layers need as "
        "many."
      )


def _check_widths(spec):
  """Raises UserError where layers of other widths do not fit the model."""
  kind = spec.get("stack", {}).get("kind", "sequential")
  for name, layer in spec["layers"].items():
    width = layer.get("width", spec["width"])
    if not isinstance(width, int) or width < 1:
      raise errors.UserError(
        f"config.model.layers.{name}.width is {width!r}; it is a number of "
        "features, such as 256."
      )
    if width != spec["width"] and kind != "sequential":
      raise errors.UserError(
        f"config.model.layers.{name}.width is {width} and config.model.width "
        f"{spec['width']}, but stack '{kind}' runs layers in a loop, for which "
        "all must be of one width: take stack.kind='sequential'."
      )


def _check_shared(spec):
  """What positions share and mixers read must be the same."""
  position = spec["positions"]["kind"]
  shared = position_parts.entry(position).build.shares
  for name, layer in spec["layers"].items():
    mixer = mixers.check(layer["mixer"])
    read = getattr(mixers.entry(mixer).build, "reads", "")
    if read == shared:
      continue
    where = f"config.model.layers.{name}.mixer '{mixer}'"
    raise errors.UserError(
      f"{where} reads {read}, which config.model.positions '{position}' do not "
      f"give; those that do: {', '.join(_sharing(read))}."
      if read
      else f"config.model.positions '{position}' give {shared}, which {where} "
      "does not read: they would have no effect."
    )


def _sharing(what):
  kinds = position_parts.kinds()
  return [k for k in kinds if position_parts.entry(k).build.shares == what]


def check_causal(
  spec, where: str = "config.model.", what: str = "the model"
) -> None:
  """Raises UserError for a part that looks ahead.

  Args:
    spec: of a model or a tower.
    where: its place in the config.
    what: which must not look ahead.
  """
  embedding = spec["embeddings"]["kind"]
  if getattr(embedding_parts.entry(embedding).build, "looks_ahead", False):
    raise errors.UserError(
      f"config.model.embeddings is '{embedding}', which reads the next token, "
      f"but {what} is a decoder: take kind='token'."
    )
  for name, layer in spec["layers"].items():
    part = mixers.entry(layer["mixer"]["kind"]).build
    always = getattr(part, "always_causal", False)
    if not always and not layer["mixer"].get("causal", False):
      raise errors.UserError(
        f"{where}layers.{name}.mixer is not causal, but {what} is a decoder: "
        "set causal=True, or take kind='encoder'."
      )
