"""A config.json: its keys, checked when they are read."""

import pathlib
from collections.abc import Mapping
from typing import Any

from jaxlm import errors
from jaxlm.errors import UserError

# transformers' activations and ours; each writes the first name found.
ACTIVATIONS = {
  "gelu": "gelu",
  "gelu_new": "gelu_tanh",
  "gelu_pytorch_tanh": "gelu_tanh",
  "gelu_fast": "gelu_tanh",
  "gelu_python": "gelu",
  "relu": "relu",
  "silu": "silu",
  "swish": "silu",
  "tanh": "tanh",
}


class Settings:
  """Reads keys of one config.json and tells what it cannot serve."""

  def __init__(self, path, values: Mapping[str, Any]):
    self.path = pathlib.Path(path)
    self.values = values

  def get(self, key: str, default=None):
    """The value of a key, or the default where absent."""
    return self.values.get(key, default)

  def size(self, key: str, *others: str) -> int:
    """A positive whole number, under the first of some names.

    Raises:
      UserError: it is absent or no positive whole number.
    """
    for name in (key, *others):
      if name in self.values:
        value = self.values[name]
        if isinstance(value, int) and value > 0:
          return value
        raise UserError(
          f"'{self.path}': {name} is {value!r}; it is a positive whole number."
        )
    raise UserError(
      f"'{self.path}' has no {key}.{errors.nearest(key, self.values)}"
    )

  def only(self, key: str, *allowed, default) -> Any:
    """The value of a key that the class reads but jaxlm has one form of.

    Raises:
      UserError: it has a value that is not among `allowed`.
    """
    value = self.values.get(key, default)
    if value not in allowed:
      raise UserError(
        f"'{self.path}': {key} is {value!r}, which jaxlm cannot express; it "
        f"reads {' or '.join(repr(a) for a in allowed)}."
      )
    return value

  def activation(self, key: str, default: str) -> str:
    """Our name of an activation.

    Raises:
      UserError: jaxlm has no such activation.
    """
    return ACTIVATIONS[self.only(key, *ACTIVATIONS, default=default)]


def activation(ours: str) -> str | None:
  """transformers' name of one of our activations, or None."""
  for theirs, name in ACTIVATIONS.items():
    if name == ours:
      return theirs
  return None
