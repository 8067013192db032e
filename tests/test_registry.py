"""The registry: found parts, checked specs, errors that help."""

import dataclasses

import flax.linen as nn
import pytest

from jaxlm.errors import UserError
from jaxlm.layers.mixers import mixers
from jaxlm.registry import Registry


@pytest.fixture
def shapes():
  registry = Registry("shape", "tests")
  registry._discovered = True  # nothing to import

  @registry.register("circle", paper="Euclid", example={"radius": 2})
  @dataclasses.dataclass(frozen=True)
  class Circle:
    radius: float
    color: str = "red"
    tags: list = dataclasses.field(default_factory=list)
    area: float = dataclasses.field(default=0.0, init=False)

  @registry.register("line")
  def line(start, end=1, **more):
    return (start, end, more)

  @registry.register("module")
  class Module(nn.Module):
    width: int

  return registry


def test_kinds_are_sorted_and_entries_keep_what_was_told(shapes):
  assert shapes.kinds() == ("circle", "line", "module")
  entry = shapes.entry("circle")
  assert (entry.kind, entry.paper, entry.example) == (
    "circle",
    "Euclid",
    {"radius": 2},
  )
  assert shapes.entry("line").example == {}


def test_fields_are_the_schema(shapes):
  assert shapes.fields("circle") == ("radius", "color", "tags")
  assert shapes.fields("module") == ("width",)


def test_build_fills_given_only_where_it_fits_and_is_unset(shapes):
  built = shapes.build({"kind": "circle"}, radius=3, width=7)
  assert (built.radius, built.color) == (3, "red")
  built = shapes.build({"kind": "circle", "radius": 1}, radius=3)
  assert built.radius == 1
  assert shapes.build({"kind": "line"}, start=4) == (4, 1, {})


def test_build_names_a_linen_module_but_nothing_else(shapes):
  assert (
    shapes.build({"kind": "module", "width": 2}, name="here").name == "here"
  )
  assert shapes.build({"kind": "circle", "radius": 1}, name="x").radius == 1


@pytest.mark.parametrize(
  ("spec", "words"),
  [
    (
      {"kind": "circel"},
      "No shape is of kind 'circel'. Did you mean 'circle'? Known: circle, "
      "line, module.",
    ),
    (
      {"kind": "circle", "radiu": 1},
      "shape 'circle' takes no radiu. Did you mean 'radius'? It takes: radius, "
      "color, tags.",
    ),
    ({"kind": "circle"}, "shape 'circle' needs a value for radius."),
    ({"kind": "line"}, "shape 'line' needs a value for start."),
    ({"kind": "module", "width": 1, "parent": 0}, "takes no parent."),
    ({"radius": 1}, "is given as dict(kind=...), found {'radius': 1}."),
    ("circle", "is given as dict(kind=...), found 'circle'."),
  ],
)
def test_mistakes_are_told_in_a_sentence(shapes, spec, words):
  with pytest.raises(UserError) as error:
    shapes.build(spec)
  assert words in str(error.value)


def test_a_kind_cannot_be_registered_twice(shapes):
  with pytest.raises(ValueError, match="shape 'line' is registered twice"):
    shapes.register("line")(dict)


def test_a_package_finds_its_own_modules():
  assert "attention" in mixers.kinds()
  with pytest.raises(UserError, match="Did you mean 'attention'"):
    mixers.build({"kind": "atention"})


def test_a_broken_module_is_told_every_time(tmp_path, monkeypatch):
  package = tmp_path / "broken_parts"
  package.mkdir()
  (package / "__init__.py").touch()
  (package / "part.py").write_text("1 / 0")
  (package / "_private.py").write_text("never imported, nor Python")
  monkeypatch.syspath_prepend(tmp_path)
  parts = Registry("part", "broken_parts")
  for _ in range(2):
    with pytest.raises(ZeroDivisionError):
      parts.kinds()
