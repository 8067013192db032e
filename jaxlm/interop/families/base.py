"""What the families share: finding tensors, naming heads."""

import re
from collections.abc import Mapping
from typing import Any

from jaxlm.interop.settings import Settings


class Found:
  """The tensors of a checkpoint, whether or not the body has its prefix."""

  def __init__(self, shapes: Mapping[str, tuple[int, ...]], prefix: str):
    self._shapes = shapes
    self._prefix = prefix

  def actual(self, *names: str) -> str | None:
    """The name in the file of the first of these tensors that it has."""
    for name in names:
      for candidate in (name, name.removeprefix(self._prefix)):
        if candidate in self._shapes:
          return candidate
    return None

  def has(self, name: str) -> bool:
    """Whether the file has a tensor."""
    return self.actual(name) is not None

  def any(self, start: str) -> bool:
    """Whether the file has a tensor whose name begins so."""
    return any(name.startswith(start) for name in self._shapes)

  def rows(self, name: str) -> int:
    """The first dimension of a tensor; 0 where it is absent."""
    actual = self.actual(name)
    return self._shapes[actual][0] if actual else 0


def classifier_role(settings: Settings, pooled: bool) -> str:
  """What 'classifier.*' is: 'classify', 'regress' or 'tag'.

  Told by the class that wrote the file; where it names none, by whether there
  is a pooled state for it to read.
  """
  names = " ".join(settings.get("architectures") or ())
  if "TokenClassification" in names:
    return "tag"
  if "SequenceClassification" not in names and not pooled:
    return "tag"
  regression = settings.get("problem_type") == "regression"
  return "regress" if regression else "classify"


def get(description: Mapping[str, Any], path: str, default=None):
  """A value of a description by 'layers/0/mixer/heads', None for absent."""
  node: Any = description
  for key in path.split("/"):
    if isinstance(node, list) and key.isdigit() and int(key) < len(node):
      node = node[int(key)]
    elif isinstance(node, Mapping) and key in node:
      node = node[key]
    else:
      return default
  return default if node is None else node


def as_released(description: Mapping[str, Any]) -> dict[str, Any]:
  """The description with `parity` on in every mixer that has it."""
  layers = [
    {**layer, "mixer": {**layer["mixer"], "parity": True}}
    if "parity" in layer["mixer"]
    else layer
    for layer in description["layers"]
  ]
  return {**description, "layers": layers}


def buffer(family, name: str) -> bool:
  """Whether a tensor holds no parameter of this family."""
  return re.search(family.BUFFERS, name) is not None
