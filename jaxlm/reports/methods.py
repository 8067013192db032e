"""docs/methods.md: every part with its source, its users and its proof.

The registries say which parts exist, the configs who uses them, and
docs/methods.toml what was checked and measured, an entry a kind:

  [mixer.attention]
  what = "..."       # optional; else the first line of the docstring
  oracle = "..."     # what it is held against, and the largest error allowed
  tests = ["tests/file.py::test_name"]
  claim = "..."      # of the source
  measured = "..."   # here
"""

import importlib
import inspect
import pathlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import jaxlm
from jaxlm import configuration, errors, files
from jaxlm.models import assembly
from jaxlm.registry import Registry

ROOT = pathlib.Path(jaxlm.__file__).parent.parent
NOTES = ROOT / "docs" / "methods.toml"
FIELDS = ("oracle", "tests", "claim", "measured")

# Key in a config -> family of the part that stands there.
_PLACES = {
  "arrangement": "arrangement",
  "block": "block",
  "corruption": "corruption",
  "cross": "mixer",
  "data": "data",
  "embeddings": "embedding",
  "evaluation_corruption": "corruption",
  "feedforward": "feedforward",
  "mixer": "mixer",
  "model": "model",
  "norm": "norm",
  "objective": "objective",
  "optimizer": "optimizer",
  "order": "order",
  "positions": "position",
  "schedule": "schedule",
  "sets": "variation",
  "stack": "stack",
  "tokenizer": "tokenizer",
  "vectors": "vectors",
}
# Family -> where in a config its parts stand.
SLOTS = {
  "model": "config.model",
  "embedding": "config.model.embeddings",
  "position": "config.model.positions, or mixer.positions of a layer",
  "norm": "config.model.norm",
  "block": "config.model.layers.NAME.block",
  "mixer": "config.model.layers.NAME.mixer",
  "feedforward": "config.model.layers.NAME.feedforward",
  "stack": "config.model.stack",
  "head": "config.model.heads.NAME",
  "objective": "config.objective",
  "optimizer": "config.optimizer",
  "schedule": "config.schedule",
  "data": "config.data",
  "tokenizer": "config.tokenizer",
  "vectors": "config.data.vectors",
  "arrangement": "config.data.arrangement",
  "corruption": "config.data.corruption, config.data.evaluation_corruption",
  "order": "config.data.order",
  "variation": "config.data.sets",
}
_HEAD = """# Methods

Every part that a config can name, from the registries, `configs/` and
`docs/methods.toml`; written by `jaxlm methods --out=docs/methods.md`, so edit
those. *Held against* is what the part is compared with in a test, and the
largest error that the test allows. *Measured* is what was seen here, not what
a paper says; "not yet" is meant.
"""


def registries() -> dict[str, Registry]:
  """Family -> its registry, found in the packages of jaxlm."""
  found = {}
  for module in pkgutil.walk_packages(jaxlm.__path__, "jaxlm."):
    if not module.ispkg:
      continue
    values = vars(importlib.import_module(module.name)).copy().values()
    for value in values:
      if isinstance(value, Registry):
        found[value.family] = value
  return found


def uses() -> dict[tuple[str, str], list[str]]:
  """(family, kind) -> the shipped configs that name it, sorted."""
  found: dict[tuple[str, str], set[str]] = {}
  for path in sorted(configuration.SHIPPED.glob("*.py")):
    if path.stem in ("common", "__init__"):
      continue
    config = configuration.complete(configuration.load(path.stem))
    for part in _parts(config):
      found.setdefault(part, set()).add(path.stem)
  return {part: sorted(names) for part, names in found.items()}


def notes(path: pathlib.Path = NOTES) -> dict[str, dict[str, Any]]:
  """Family -> kind -> what docs/methods.toml says.

  Raises:
    UserError: no such file, or it cannot be read.
  """
  try:
    return tomllib.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise errors.UserError(
      f"{path} is missing: `jaxlm methods` works in a checkout of jaxlm."
    ) from None
  except tomllib.TOMLDecodeError as error:
    raise errors.UserError(f"{path}: {error}.") from error


def check(told: Mapping[str, Mapping[str, Any]]) -> None:
  """Raises unless the notes and the registries hold the same kinds.

  Raises:
    UserError: a part without an entry or without one of its fields, or an
      entry without a part; all of them are listed.
  """
  wrong = []
  families = registries()
  for family, registry in families.items():
    for kind in registry.kinds():
      entry = told.get(family, {}).get(kind)
      if entry is None:
        wrong.append(f"[{family}.{kind}] is missing")
        continue
      wrong += [
        f"[{family}.{kind}] has no {field}"
        for field in FIELDS
        if not entry.get(field)
      ]
  for family, kinds in told.items():
    known = families[family].kinds() if family in families else ()
    wrong += [
      f"[{family}.{kind}] is no part" for kind in kinds if kind not in known
    ]
  if wrong:
    raise errors.UserError(f"docs/methods.toml: {'; '.join(wrong)}.")


def render() -> str:
  """The text of docs/methods.md.

  Raises:
    UserError: docs/methods.toml lacks a part; see `check`.
  """
  told, used = notes(), uses()
  check(told)
  pages = [_HEAD]
  families = registries()
  order = {family: place for place, family in enumerate(SLOTS)}
  for family in sorted(families, key=lambda f: (order.get(f, len(order)), f)):
    rows = [
      _row(families[family].entry(kind), told[family][kind], used, family)
      for kind in families[family].kinds()
    ]
    pages.append(_table(family, rows))
  return "\n".join(pages)


def write(out) -> str:
  """Writes docs/methods.md to `out` and says so.

  Raises:
    UserError: see `render`.
  """
  text = render()
  with files.replacing(out) as file:
    file.write(text)
  count = sum(len(registry.kinds()) for registry in registries().values())
  return f"{out}: {count} parts"


def _parts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
  if not isinstance(node, Mapping):
    return
  family = "head" if key == "heads.*" else _PLACES.get(key)
  if family and isinstance(node.get("kind"), str):
    yield family, node["kind"]
  for name, value in node.items():
    yield from _parts(value, "heads.*" if key in assembly.HEADS else name)


def _row(entry, note, used, family) -> list[str]:
  doc = inspect.getdoc(entry.build) or ""
  tests = ", ".join(_link(test) for test in note["tests"])
  return [
    f"`{entry.kind}`",
    note.get("what", doc.partition("\n")[0]),
    entry.paper or "own",
    ", ".join(used.get((family, entry.kind), ())) or "none",
    f"{note['oracle']} ({tests})",
    note["claim"],
    note["measured"],
  ]


def _link(test: str) -> str:
  path, _, name = test.partition("::")
  return f"[{name or path}](../{path})"


def _table(family: str, rows: list[list[str]]) -> str:
  titles = (
    "kind",
    "what",
    "source",
    "configs",
    "held against",
    "claim",
    "measured",
  )
  lines = [titles, ["---"] * len(titles), *rows]
  clean = lambda text: re.sub(r"\s+", " ", text).replace("|", "\\|").strip()
  body = "\n".join(f"| {' | '.join(map(clean, line))} |" for line in lines)
  slot = SLOTS.get(family, f"config.{family}")
  return f"## {family}\n\nSlot: `{slot}`.\n\n{body}\n"
