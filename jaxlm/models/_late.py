"""What models of two towers over one token table share."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.embeddings import embeddings as embedding_parts
from jaxlm.models import _places, assembly

_KEYS = (
  "kind",
  "width",
  "vocab_size",
  "embeddings",
  "towers",
  "heads",
  "norm",
  "dropout",
  "initializer",
)
_SHARED = ("embeddings", "heads")


class Parts(NamedTuple):
  """The parts of such a model.

  Attributes:
    embeddings: of all towers.
    towers: name -> Encoder.
    heads: name -> head.
    given: what every further part is given.
  """

  embeddings: nn.Module
  towers: dict[str, Any]
  heads: dict[str, nn.Module]
  given: dict[str, Any]


def assembled(spec, names: tuple[str, str], dtype, **given) -> Parts:
  """Towers over one token table, and heads.

  Args:
    spec: of the whole model.
    names: of its towers, the one that reads tokens first.
    dtype: of activations.
    **given: what the caller knows.

  Raises:
    UserError: an unknown key, or towers of other names, kinds or widths.
  """
  _check(spec, names)
  return over_one_table(spec, spec.get("heads", {}), dtype, **given)


def over_one_table(spec, heads: Mapping[str, Any], dtype, **given) -> Parts:
  """The towers of a spec, without heads, over its embeddings, and `heads`."""
  given = assembly.surroundings(spec, dtype, 1, **given)
  table = embedding_parts.build(spec["embeddings"], **given)
  inner = {k: given[k] for k in ("vocab_size", "param_dtype") if k in given}
  towers = {
    name: assembly.build(
      {**tower, "embeddings": spec["embeddings"], "heads": {}},
      dtype=dtype,
      embeddings=table,
      **inner,
    )
    for name, tower in spec["towers"].items()
  }
  made = assembly.head_modules({**spec, "heads": heads}, given)
  return Parts(table, towers, made, given)


def crosses(tower: Mapping[str, Any]) -> bool:
  """Whether the layers of a tower read another one.

  Raises:
    UserError: some do and others do not.
  """
  found = {"cross" in tower["layers"][n] for n in assembly.layer_order(tower)}
  if len(found) > 1:
    raise errors.UserError(
      "Some layers of config.model.towers.decoder have 'cross' and others do "
      "not; they read either the whole row (none has it) or the places to "
      "predict and the encoder (all have it)."
    )
  return found.pop()


def narrowing(spec, first: str, second: str, given) -> nn.Module | None:
  """From one tower's width to the other's; None where they are equal."""
  width = spec["towers"][second]["width"]
  if width == spec["towers"][first]["width"]:
    return None
  return primitives.dense(
    width,
    ("embed", "mlp"),
    init=given["initializer"].kernel(),
    dtype=given["dtype"],
    param_dtype=given["param_dtype"],
  )


def chosen(x, ctx, batch):
  """States and context at `predict_positions`.

  Slots without weight are padding there: no other slot sees them.

  Returns:
    [batch, p, width], and the context of these places.
  """
  places = batch["predict_positions"]
  keep = None
  if "predict_weights" in batch:
    keep = batch["predict_weights"] > 0
  return _places.gather(x, places), _places.context(ctx, places, keep)


def without_places(batch):
  """The batch for heads whose input holds chosen tokens already."""
  return {k: v for k, v in batch.items() if k != "predict_positions"}


def _check(spec, names) -> None:
  kind = f"config.model of kind '{spec['kind']}'"
  for key in spec:
    if key not in _KEYS:
      raise errors.unknown(f"{kind} has no key", key, _KEYS)
  for key in ("width", "embeddings", "towers"):
    if key not in spec:
      raise errors.UserError(f"{kind} needs '{key}'.")
  towers = spec["towers"]
  if set(towers) != set(names):
    raise errors.UserError(
      f"{kind} has the towers {', '.join(sorted(towers)) or 'none'}; it needs "
      f"{' and '.join(names)}."
    )
  for name, tower in towers.items():
    where = f"config.model.towers.{name}"
    if tower.get("kind") != "encoder":
      raise errors.UserError(
        f"{where}.kind is {tower.get('kind')!r}; it is 'encoder'."
      )
    for key in _SHARED:
      if tower.get(key):
        raise errors.UserError(
          f"{where} has '{key}', which belong to the whole model: give them as "
          f"config.model.{key}."
        )
  if towers[names[0]].get("width") != spec["width"]:
    raise errors.UserError(
      f"config.model.width is {spec['width']} and that of its tower "
      f"'{names[0]}' {towers[names[0]].get('width')}; they are the same."
    )


def row_of(batch_spec: Mapping[str, Any], key: str) -> int:
  """Tokens a row that `key` holds; all where the batch has no such key."""
  found = batch_spec.get(key, batch_spec["inputs"])
  return found.shape[1]
