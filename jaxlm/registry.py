"""One registry a family: kinds chosen by name, fields checked, built.

The fields of a part are its config schema; no mirror class exists. Errors of
selection come from here, so they all read alike.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxlm import errors

_LINEN_FIELDS = ("parent", "name")


class Entry(NamedTuple):
  """A registered part: what builds it, its source, an example of its spec."""

  kind: str
  build: Callable[..., Any]
  paper: str | None
  example: Mapping[str, Any]


class Registry:
  """The parts of one family, found in the modules of its package.

  Example::

    mixers = Registry("mixer", __name__)      # in mixers/__init__.py

    @mixers.register("attention", paper="arXiv:1706.03762")
    class Attention(nn.Module):               # in mixers/attention.py
      heads: int

    mixers.build({"kind": "attention", "heads": 12}, dtype=jnp.bfloat16)
  """

  def __init__(self, family: str, package: str):
    self.family = family
    self._package = package
    self._entries: dict[str, Entry] = {}
    self._discovered = False

  def register(self, kind, *, paper=None, example=None):
    """Decorator that adds a class or function under `kind`."""

    def add(part):
      if kind in self._entries:
        raise ValueError(f"{self.family} '{kind}' is registered twice")
      self._entries[kind] = Entry(kind, part, paper, dict(example or {}))
      return part

    return add

  def kinds(self) -> tuple[str, ...]:
    """All kinds, sorted."""
    self._discover()
    return tuple(sorted(self._entries))

  def entry(self, kind: str) -> Entry:
    """The entry of a kind.

    Raises:
      UserError: no part of this family is of that kind.
    """
    self._discover()
    if kind not in self._entries:
      raise errors.unknown(f"No {self.family} is of kind", kind, self._entries)
    return self._entries[kind]

  def fields(self, kind: str) -> tuple[str, ...]:
    """The fields that a spec of this kind may set."""
    names = _names(self.entry(kind).build)
    return tuple(n for n in names if n not in _LINEN_FIELDS)

  def check(self, spec: Mapping[str, Any]) -> str:
    """Checks a spec's kind and field names, and returns the kind.

    Raises:
      UserError: an unknown kind or field, with the nearest valid name.
    """
    if not isinstance(spec, Mapping) or "kind" not in spec:
      raise errors.UserError(
        f"A {self.family} is given as dict(kind=...), found {spec!r}. "
        f"Known kinds: {', '.join(self.kinds())}."
      )
    kind = spec["kind"]
    fields = self.fields(kind)
    for name in spec:
      if name != "kind" and name not in fields:
        raise errors.UserError(
          f"{self.family} '{kind}' takes no {name}."
          f"{errors.nearest(name, fields)} It takes: {', '.join(fields)}."
        )
    return kind

  def build(self, spec: Mapping[str, Any], **given) -> Any:
    """Builds the part that `spec` describes.

    `given` holds values that the surroundings know (dtype, width); they fill
    fields that exist and that the spec leaves unset. `name` names the Linen
    module, which a spec cannot.

    Raises:
      UserError: an unknown kind or field, or a field left without a value.
    """
    kind = self.check(spec)
    fields = self.fields(kind)
    part = self.entry(kind).build
    values = {k: v for k, v in given.items() if k in fields}
    if "name" in given and "name" in _names(part):
      values["name"] = given["name"]  # the name of a Linen module in its owner
    values |= {k: v for k, v in spec.items() if k != "kind"}
    missing = [n for n in _required(part) if n not in values]
    if missing:
      raise errors.UserError(
        f"{self.family} '{kind}' needs a value for {', '.join(missing)}."
      )
    return part(**values)

  def _discover(self):
    if self._discovered:
      return
    package = importlib.import_module(self._package)
    for module in pkgutil.iter_modules(package.__path__):
      if not module.name.startswith("_"):
        importlib.import_module(f"{self._package}.{module.name}")
    # Last: a module that cannot be imported is told every time.
    self._discovered = True


def _names(part) -> list[str]:
  if dataclasses.is_dataclass(part):
    return [f.name for f in dataclasses.fields(part) if f.init]
  return list(inspect.signature(part).parameters)


def _required(part) -> list[str]:
  if dataclasses.is_dataclass(part):
    return [
      f.name
      for f in dataclasses.fields(part)
      if f.init
      and f.name not in _LINEN_FIELDS
      and f.default is dataclasses.MISSING
      and f.default_factory is dataclasses.MISSING
    ]
  return [
    p.name
    for p in inspect.signature(part).parameters.values()
    if p.default is p.empty and p.kind is not p.VAR_KEYWORD
  ]
