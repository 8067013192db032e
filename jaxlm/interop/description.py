"""A model spec with all its defaults filled in, layer by layer.

Two specs that compute the same have equal descriptions, whatever they call
their layers and heads; a description is plain JSON and rebuilds the spec.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from jaxlm.errors import UserError
from jaxlm.layers.blocks import blocks
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.heads import heads as head_parts
from jaxlm.layers.mixers import mixers
from jaxlm.layers.norms import norms
from jaxlm.layers.positions import positions
from jaxlm.layers.stacks.shared import firsts
from jaxlm.models import assembly

# Fields that no file for other programs keeps: they say how weights start,
# what computes them, or repeat what the description says elsewhere.
_LEFT_OUT = {
  "initializer",
  "dtype",
  "param_dtype",
  "implementation",
  "convolution_implementation",
  "width",
  "vocab_size",
  "pad_to_multiple",
}
ROLES = (
  "masked_lm",
  "causal_lm",
  "seq2seq_lm",
  "replaced_token",
  "next_sentence",
  "classify",
  "regress",
  "tag",
)


class NotExportable(UserError):
  """A model for which no file of another program exists."""


def role(name: str, head: Mapping[str, Any]) -> str:
  """What a head is in an exported folder: its kind, or 'next_sentence'."""
  if name == "next_sentence" and head.get("kind") == "classify":
    return name
  return head.get("kind", "")


def exported_heads(spec: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
  """The heads of a spec but those that only pre-training needs."""
  return {
    name: head
    for name, head in spec.get("heads", {}).items()
    if not _pretraining_only(head)
  }


def _pretraining_only(head) -> bool:
  part = head_parts.entry(head_parts.check(head)).build
  return getattr(part, "pretraining_only", False)


def roles(spec: Mapping[str, Any]) -> dict[str, str]:
  """role -> the name of the head in the spec.

  Raises:
    NotExportable: a head that no exported folder can hold, or two of one role.
  """
  found: dict[str, str] = {}
  for name, head in exported_heads(spec).items():
    place = role(name, head)
    if place not in ROLES:
      raise NotExportable(
        f"config.model.heads.{name} is of kind '{place}', which cannot be "
        f"exported. Heads that can: {', '.join(ROLES)}. Leave it out of the "
        "exported model."
      )
    if place in found:
      raise NotExportable(
        f"config.model.heads has two heads of kind '{place}' ({found[place]} "
        f"and {name}); an exported folder holds one. Leave one of them out."
      )
    found[place] = name
  return found


def describe(spec: Mapping[str, Any]) -> dict[str, Any]:
  """The description of a spec that sets `vocab_size` and heads' classes.

  Raises:
    UserError: an unknown kind or field.
    NotExportable: layers of a width of their own, or without feed-forward.
  """
  _check_layers(spec)
  if "towers" in spec:
    return _describe_towers(spec)
  norm = _part(norms, spec.get("norm", {"kind": "layer_norm"}))
  dropout = spec.get("dropout", 0.0)
  inside = assembly.inside_mixers(spec)  # rotary positions of the model
  at_model = {"kind": "none"} if inside else spec["positions"]
  return {
    "kind": spec["kind"],
    "width": spec["width"],
    "vocab_size": spec["vocab_size"],
    "dropout": dropout,
    "embeddings": _part(embeddings, spec["embeddings"]),
    "positions": _part(positions, at_model, **assembly.shared_heads(spec)),
    "norm": norm,
    "input_norm": bool(spec.get("input_norm", False)),
    "final_norm": bool(spec.get("final_norm", False)),
    "layers": [
      _layer(spec["layers"][name], dropout, inside)
      for name in assembly.layer_order(spec)
    ],
    **_sharing(spec),
    "heads": _heads(spec, norm, dropout),
  }


def _check_layers(spec):
  for name, layer in spec.get("layers", {}).items():
    if "feedforward" not in layer:
      raise NotExportable(
        f"config.model.layers.{name} has no feed-forward: no file of another "
        "program holds such layers."
      )
    if layer.get("width", spec["width"]) != spec["width"]:
      raise NotExportable(
        f"config.model.layers.{name}.width is {layer['width']} and "
        f"config.model.width {spec['width']}: no file of another program holds "
        "layers of several widths."
      )


def towers(description: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
  """name -> description of each tower; {"": description} where there is one."""
  return dict(description.get("towers", {"": description}))


def longest(description: Mapping[str, Any]) -> int | None:
  """Positions that all towers have, or None where they set no limit."""
  limits = (
    t["positions"].get("max_length") for t in towers(description).values()
  )
  return min((limit for limit in limits if limit), default=None)


def _sharing(spec) -> dict[str, list[int]]:
  """{"sharing": the layer whose parameters each uses}, where any are shared."""
  order = assembly.layer_order(spec)
  own = spec.get("stack", {}).get("kind") != "shared"
  if own or len(set(order)) == len(order):
    return {}
  return {"sharing": list(firsts(order))}


def spec_of(description: Mapping[str, Any]) -> dict[str, Any]:
  """A spec with this description, its equal layers under one name."""
  palette: list[dict] = []
  order = []
  for layer in description["layers"]:
    if layer not in palette:
      palette.append(layer)
    order.append(palette.index(layer))
  names = (
    ["layer"]
    if len(palette) == 1
    else [f"layer_{i}" for i in range(len(palette))]
  )
  kept = {k: v for k, v in description.items() if k != "layers"}
  return {
    **kept,
    "layers": {n: layer for n, layer in zip(names, palette)},
    "order": tuple(names[i] for i in order),
    "stack": {"kind": "scan"},
  }


def flat(description: Any, path: str = "") -> dict[str, Any]:
  """{'layers/0/mixer/heads': 12} of everything but dropout rates."""
  if isinstance(description, Mapping):
    items = description.items()
  elif isinstance(description, list):
    items = enumerate(description)
  else:
    return {path: description}
  found: dict[str, Any] = {}
  for key, value in items:
    if "dropout" not in str(key):
      found |= flat(value, f"{path}/{key}" if path else str(key))
  return found


def differences(first, second) -> list[str]:
  """Where two descriptions differ, one short line each.

  A part of another kind is told by its kind alone, and what holds for several
  layers once.
  """
  a, b = flat(first), flat(second)
  unlike = sorted(p for p in a.keys() | b.keys() if a.get(p) != b.get(p))
  kinds = [path[: -len("/kind")] for path in unlike if path.endswith("/kind")]
  lines = []
  for path in unlike:
    if any(path.startswith(f"{k}/") and path != f"{k}/kind" for k in kinds):
      continue
    line = f"{path} is {_shown(a, path)}, not {_shown(b, path)}"
    lines.append(re.sub(r"^layers/\d+/", "a layer's ", line))
  return list(dict.fromkeys(lines))


def _shown(values, path) -> str:
  return repr(values[path]) if path in values else "absent"


def _describe_towers(spec) -> dict[str, Any]:
  """Of towers that share the token table, which belongs to the whole."""
  norm = _part(norms, spec.get("norm", {"kind": "layer_norm"}))
  dropout = spec.get("dropout", 0.0)
  parts = {
    name: describe(
      {
        **tower,
        "embeddings": spec["embeddings"],
        "heads": {},
        "vocab_size": spec["vocab_size"],
      }
    )
    for name, tower in assembly.towers(spec).items()
  }
  return {
    "kind": spec["kind"],
    "width": spec["width"],
    "vocab_size": spec["vocab_size"],
    "dropout": dropout,
    "output_dropout": spec.get("output_dropout", 0.0),
    "embeddings": _part(embeddings, spec["embeddings"]),
    "towers": parts,
    "heads": _heads(spec, norm, dropout),
  }


def _heads(spec, norm, dropout) -> dict[str, Any]:
  return {
    place: _part(
      head_parts, _with_norm(spec["heads"][name], norm), dropout=dropout
    )
    for place, name in sorted(roles(spec).items())
  }


def _layer(layer, dropout, inside) -> dict[str, Any]:
  cross = {"cross": _part(mixers, layer["cross"])} if "cross" in layer else {}
  return cross | {
    "block": _part(
      blocks,
      layer["block"],
      left_out=("mixer", "cross", "feedforward", "norm"),
      dropout=dropout,
    ),
    "mixer": _part(mixers, {**inside, **layer["mixer"]}),
    "feedforward": _part(feedforwards, layer["feedforward"]),
  }


def _with_norm(head, norm):
  """A head's spec with the norm that it has, its own or the model's."""
  if "norm" not in head_parts.fields(head["kind"]):
    return head
  return {**head, "norm": _part(norms, head.get("norm", norm))}


def _part(registry, spec, *, left_out=(), **given) -> dict[str, Any]:
  kind = registry.check(spec)
  values: dict[str, Any] = {}
  for field in dataclasses.fields(registry.entry(kind).build):
    name = field.name
    if name in _LEFT_OUT or name in left_out or name in ("parent", "name"):
      continue
    if field.default is not dataclasses.MISSING:
      values[name] = field.default
    if name in given:
      values[name] = given[name]
    if name in spec:
      values[name] = spec[name]
  if isinstance(values.get("positions"), Mapping):
    values["positions"] = _part(positions, values["positions"])
  return {"kind": kind, **values}
