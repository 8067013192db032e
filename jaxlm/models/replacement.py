"""Parts of a trained model's spec replaced by others that keep its weights.

`config.model.replace = dict(mixer=dict(kind="hedgehog"))` with `init_from`
puts a Hedgehog in the place of every mixer of the model to start from. A part
says by its `replaces` whose place it takes and which fields then fall away;
all others are handed over. Its `drawn_anew` names the modules that the old
part has no weights for (`jaxlm.interop.adapting`).
"""

from collections.abc import Mapping
from typing import Any

from jaxlm.errors import UserError, nearest, unknown
from jaxlm.layers.blocks import blocks
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.mixers import mixers

_SLOTS = {"block": blocks, "mixer": mixers, "feedforward": feedforwards}


def apply(spec: Mapping[str, Any]) -> dict[str, Any]:
  """The model spec with `replace` carried out, and without that key.

  Args:
    spec: `config.model`, with the layers of the model to start from.

  Raises:
    UserError: no such slot or kind, layers that are missing, or a part that
      cannot take another's place.
  """
  spec = dict(spec)
  changes = spec.pop("replace", None)
  if not changes:
    return spec
  if not spec.get("layers"):
    raise UserError(
      "config.model.replace changes the layers of a model, but there are "
      "none: set config.init_from to the model to start from."
    )
  for slot in changes:
    if slot not in _SLOTS:
      raise unknown("config.model.replace has no slot", slot, _SLOTS)
  spec["layers"] = {
    name: {slot: _new(slot, old, changes) for slot, old in layer.items()}
    for name, layer in spec["layers"].items()
  }
  return spec


def drawn_anew(spec: Mapping[str, Any]) -> set[str]:
  """'mixer/query_map', ..: modules whose weights other parts do not have."""
  return {
    f"{slot}/{module}"
    for layer in spec.get("layers", {}).values()
    for slot, part in layer.items()
    for module in getattr(
      _SLOTS[slot].entry(part["kind"]).build, "drawn_anew", ()
    )
  }


def _new(slot, old, changes):
  if slot not in changes:
    return old
  change, registry = changes[slot], _SLOTS[slot]
  kind = registry.check(change)
  if kind == old["kind"]:
    return {**old, **change}
  part = registry.entry(kind).build
  places = getattr(part, "replaces", {})
  if old["kind"] not in places:
    raise UserError(
      f"config.model.replace.{slot} is '{kind}', which cannot take the place "
      f"of '{old['kind']}' and keep its weights; it can that of: "
      f"{', '.join(places) or 'none'}."
    )
  dropped, fields = places[old["kind"]], registry.fields(kind)
  kept = {}
  for name, value in old.items():
    if name == "kind" or name in dropped:
      continue
    if name not in fields:
      if not value:  # off, as in a part that has no such thing
        continue
      raise UserError(
        f"config.model.replace.{slot}: '{kind}' has no {name}, but the "
        f"'{old['kind']}' to replace has {name}={value!r}."
        f"{nearest(name, fields)}"
      )
    kept[name] = value
  return {**kept, **change}
