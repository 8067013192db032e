"""Imports point down, stay light, and every module can be imported."""

import ast
import functools
import importlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("jaxlm", "pallas_kernels", "configs")
# Text for other people's machines, in PyTorch: shipped, never imported.
EXPORTED = ("jaxlm.interop.exported",)
FOUNDATION = ("types", "errors", "registry", "context", "paths", "files")
HEAVY = ("seqio", "tensorflow", "tensorflow_text", "tensorflow_datasets")
FOREIGN = ("torch", "transformers")

# Room -> rooms that it may import, beside itself.
BELOW = {
  "layers": (*FOUNDATION, "sharding"),
  "models": (*FOUNDATION, "sharding", "layers"),
  "objectives": FOUNDATION,
  "optimizers": (*FOUNDATION, "schedules"),
  "schedules": FOUNDATION,
  "training": (*FOUNDATION, "sharding", "schedules", "optimizers"),
  "data": FOUNDATION,
  "sharding": FOUNDATION,
  **{name: FOUNDATION for name in FOUNDATION},
}
# Families of layers that know a base class or the registry of another.
ACROSS = {
  ("embeddings", "norms"),  # vectors that are projected pass a norm
  ("heads", "norms"),  # a head builds the norm that its spec names
  ("mixers", "norms"),  # so do the states of a memory
  ("mixers", "positions"),  # the base class of rotary positions
  ("positions", "norms"),  # a table of positions builds its norm
}


def module_name(path: pathlib.Path) -> str:
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def sources() -> dict[str, ast.Module]:
  """Module -> its syntax tree."""
  return {
    module_name(path): ast.parse(path.read_text(encoding="utf-8"))
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if not module_name(path).startswith(EXPORTED)
  }


def imported(tree, *, at_the_top: bool = False) -> set[str]:
  """Modules that a tree imports; `at_the_top`: when it is imported itself."""
  nodes = _running(tree) if at_the_top else ast.walk(tree)
  found = set()
  for node in nodes:
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and not node.level:
      for alias in node.names:
        whole = f"{node.module}.{alias.name}"
        found.add(whole if whole in sources() else node.module)
  return found


def _running(tree):
  """Nodes that run on import: not in functions, not for type checkers."""
  stack = list(tree.body)
  while stack:
    node = stack.pop()
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
      continue
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
      continue
    yield node
    stack += ast.iter_child_nodes(node)


def top(module: str) -> str:
  return module.partition(".")[0]


def room(module: str) -> str:
  """'layers' of 'jaxlm.layers.mixers'; '' of 'jaxlm'."""
  return (module.split(".") + [""])[1]


def test_imports_are_written_in_full():
  for module, tree in sources().items():
    for node in ast.walk(tree):
      assert not getattr(node, "level", 0), module


@pytest.mark.parametrize("name", sorted(BELOW))
def test_rooms_import_what_is_below_them(name):
  for module, tree in sources().items():
    if top(module) != "jaxlm" or room(module) != name:
      continue
    for target in imported(tree):
      if top(target) == "jaxlm" and room(target) not in ("", name):
        assert room(target) in BELOW[name], f"{module} imports {target}"
      assert top(target) != "configs", f"{module} imports {target}"


def test_only_commands_and_runs_know_all_families():
  """recipe is read by what runs a config; commands by nobody."""
  above = ("recipe", "run", "commands", "demo", "loading", "__main__")
  for module, tree in sources().items():
    for target in imported(tree):
      if target.startswith("jaxlm.commands"):
        assert room(module) in ("commands", "__main__"), module
      if target == "jaxlm.recipe":
        assert room(module) in above, f"{module} imports {target}"


def test_kernels_import_jax_only():
  allowed = {"jax", "numpy", "pallas_kernels", *sys.stdlib_module_names}
  for module, tree in sources().items():
    if top(module) == "pallas_kernels":
      assert {top(t) for t in imported(tree)} <= allowed, module


def test_families_of_layers_do_not_import_each_other():
  family = lambda module: module.split(".")[2] if module.count(".") > 2 else ""
  families = {
    path.name for path in (ROOT / "jaxlm/layers").iterdir() if path.is_dir()
  } - {"__pycache__"}
  assert {"mixers", "heads", "norms"} <= families
  for module, tree in sources().items():
    if not module.startswith("jaxlm.layers."):
      continue
    own = module.split(".")[2]
    for target in imported(tree):
      if not target.startswith("jaxlm.layers."):
        continue
      other = target.split(".")[2]
      if own in families and other in families and own != other:
        assert (own, other) in ACROSS, f"{module} imports {target}"
        if other == "positions":
          assert family(target + ".") and target.endswith("positions.base")


def test_tensorflow_enters_through_private_modules_of_data():
  gates = {"jaxlm.data._seqio": "seqio", "jaxlm.data._tensorflow": "tensorflow"}
  for module, tree in sources().items():
    for target in imported(tree):
      if top(target) in HEAVY:
        assert gates.get(module) == top(target), f"{module} imports {target}"


def heavy_modules() -> set[str]:
  """Modules whose import brings TensorFlow in, by whatever way."""
  tops = {m: imported(t, at_the_top=True) for m, t in sources().items()}
  heavy = {m for m, targets in tops.items() if {*map(top, targets)} & {*HEAVY}}
  while True:
    more = {m for m, targets in tops.items() if targets & heavy} - heavy
    if not more:
      return heavy
    heavy |= more


def test_only_private_modules_of_data_bring_tensorflow_in():
  found = heavy_modules()
  assert "jaxlm.data._pipeline" in found  # the search works
  for module in found:
    assert module.startswith("jaxlm.data."), module
    assert module.rpartition(".")[2].startswith("_"), module


def test_pytorch_is_imported_inside_functions():
  for module, tree in sources().items():
    targets = imported(tree, at_the_top=True)
    assert not {*map(top, targets)} & {*FOREIGN}, module


def test_light_modules_do_not_import_tensorflow_or_pytorch():
  """In a fresh interpreter: what reads no data does not pay for seqio."""
  light = sorted({*sources()} - {"jaxlm.__main__"} - heavy_modules())
  assert {"jaxlm.recipe", "jaxlm.models", "jaxlm.commands.train"} <= {*light}
  program = f"""
import importlib, sys
for name in {light!r}:
  importlib.import_module(name)
  found = [m for m in {(*HEAVY, *FOREIGN)!r} if m in sys.modules]
  assert not found, f"importing {{name}} imports {{found}}"
"""
  result = subprocess.run(
    [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
  )
  assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["jaxlm.__main__", *sorted(heavy_modules())])
def test_the_other_modules_can_be_imported(name):
  importlib.import_module(name)


def test_every_command_has_a_main_and_a_first_line():
  from jaxlm import __main__

  names = __main__.names()
  assert {"train", "evaluate", "generate", "import", "methods"} <= {*names}
  for module in names.values():
    command = importlib.import_module(module)
    assert callable(command.main), module
    assert command.__doc__.splitlines()[0].endswith("."), module
  usage = __main__.usage()
  assert all(f"\n  {name} " in usage for name in names)
