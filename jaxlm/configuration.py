"""Config files and command-line overrides, with errors that help.

A config is an ml_collections.ConfigDict that a Python file's `get_config`
returns; `--config=mosaicbert:small --config.data.files=corpus.txt` names the
file, its variant and what to change.
"""

import ast
import importlib.util
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

import jaxlm
from jaxlm import errors

SHIPPED = pathlib.Path(jaxlm.__file__).parent.parent / "configs"

# Keys whose fields are those of a part: its registry knows them, not we.
_SLOTS = ("model", "tokenizer", "data")

# Numbers that may also be told in words: "24h", "3 epochs", "1e9 tokens".
_DURATIONS = ("steps", "every", "warmup", "decay")


def defaults() -> dict[str, Any]:
  """The canonical keys; a paper's config sets what differs.

  Durations (`steps`, `every`, `warmup`) and the slots (`kind`) are explained
  in docs/design.md.
  """
  return dict(
    seed=0,
    steps=10_000,
    batch_size=256,
    microbatches=1,
    # bfloat16 on GPU and TPU, float32 on CPU, whose bfloat16 is slow.
    precision=dict(compute="auto", params="float32"),
    clip_norm=1.0,
    data=dict(kind="packed", files="", length=128),
    tokenizer=dict(kind="wordpiece", vocab_size=32_768),
    model=dict(),
    objective=dict(kind="masked_lm"),
    optimizer=dict(kind="adamw", learning_rate=1e-4),
    schedule=dict(kind="linear", warmup=0.06),
    checkpoint=dict(every=1000, keep=3),
    log=dict(every=50, progress=True, tensorboard=True),
    evaluation=dict(every=1000, batches=16),
    mesh=dict(data=-1, fsdp=1, tensor=1),
    init_from="",
    cost=dict(
      dollars_per_device_hour=0.0,
      watts_per_device=0.0,
      kg_co2e_per_kwh=0.445,
      peak_flops=0.0,
    ),
  )


def load(reference: str) -> ConfigDict:
  """The config that 'file.py:variant' or 'name:variant' names.

  Raises:
    UserError: no such file, no such variant, or a file that is no config.
  """
  target, _, variant = reference.partition(":")
  path = _find(target)
  spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  if str(SHIPPED.parent) not in sys.path:
    sys.path.append(str(SHIPPED.parent))  # for `from configs import common`
  try:
    spec.loader.exec_module(module)
  except SyntaxError as error:
    where = f"{path}, line {error.lineno}"
    raise errors.UserError(f"{where}: {error.msg}") from error
  if not hasattr(module, "get_config"):
    raise errors.UserError(
      f"{path} is no config: it has no function get_config(variant)."
    )
  config = module.get_config(variant) if variant else module.get_config()
  if isinstance(config, ConfigDict):
    config = config.to_dict()
  return ConfigDict(config, type_safe=False)


def override(config: ConfigDict, assignments: Sequence[tuple[str, str]]):
  """Sets keys such as ('optimizer.learning_rate', '1e-3') in place.

  A slot (a dict with a `kind`) takes any field; its registry checks it when
  the part is built. Elsewhere only known keys are taken.

  Raises:
    UserError: an unknown key, or a value of another type.
  """
  for key, text in assignments:
    node: Any = config
    *parents, last = key.split(".")
    for i, parent in enumerate(parents):
      if not isinstance(node, ConfigDict):
        raise _unknown(".".join(parents[: i + 1]), node)
      if parent not in node and i and parents[0] in _SLOTS:
        with node.unlocked():
          node[parent] = ConfigDict()
      if parent not in node:
        raise _unknown(".".join(parents[: i + 1]), node)
      node = node[parent]
    if not isinstance(node, ConfigDict):
      raise _unknown(key, node)
    if last in node:
      node[last] = _convert(key, text, node[last])
    elif "kind" in node or key.split(".")[0] in _SLOTS:
      with node.unlocked():
        node[last] = literal(text)
    else:
      raise _unknown(key, node)
  return config


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
  """Plain dicts and tuples, with the canonical keys filled in.

  Raises:
    UserError: a key that jaxlm does not know.
  """
  if isinstance(config, ConfigDict):
    config = config.to_dict()
  whole = defaults()
  for key, value in config.items():
    if key not in whole:
      raise errors.unknown("config has no key", key, whole)
    fixed = isinstance(whole[key], dict) and "kind" not in whole[key]
    if fixed and key != "model":
      for name in value:
        if name not in whole[key]:
          raise errors.unknown(f"config.{key} has no key", name, whole[key])
      value = {**whole[key], **value}
    whole[key] = value
  return whole


def split_args(argv: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
  """Takes `--config.key=value` (or `--config.key value`) out of argv."""
  taken, rest, argv = [], [], list(argv)
  while argv:
    arg = argv.pop(0)
    if not arg.startswith("--config."):
      rest.append(arg)
      continue
    key, equals, value = arg.removeprefix("--config.").partition("=")
    if not equals:
      if not argv:
        raise errors.UserError(f"{arg} needs a value: {arg}=VALUE.")
      value = argv.pop(0)
    taken.append((key, value))
  return taken, rest


def _find(target: str) -> pathlib.Path:
  path = pathlib.Path(target)
  if path.is_file():
    return path
  shipped = SHIPPED / f"{path.name.removesuffix('.py')}.py"
  if path.parent.name in ("", "configs") and shipped.is_file():
    return shipped
  known = sorted(
    p.stem for p in SHIPPED.glob("*.py") if p.stem not in ("common", "__init__")
  )
  raise errors.UserError(
    f"There is no config '{target}'.{errors.nearest(path.stem, known)} It is "
    f"a Python file or one of: {', '.join(known)}."
  )


def _unknown(key, node):
  known = node.keys() if isinstance(node, ConfigDict) else ()
  parent, _, last = key.rpartition(".")
  where = f"config.{parent}" if parent else "config"
  if not known:
    return errors.UserError(f"{where} is a value and has no key '{last}'.")
  return errors.unknown(f"{where} has no key", last, known)


class _Dicts(ast.NodeTransformer):
  """dict(kind='blocks') as {'kind': 'blocks'}, which is a literal."""

  def visit_Call(self, node):
    self.generic_visit(node)
    named = isinstance(node.func, ast.Name) and node.func.id == "dict"
    if not named or node.args or any(k.arg is None for k in node.keywords):
      return node
    keys = [ast.Constant(k.arg) for k in node.keywords]
    return ast.Dict(keys, [k.value for k in node.keywords])


def literal(text: str):
  """The Python value that a text writes, dict(...) included, or the text."""
  try:
    return ast.literal_eval(_Dicts().visit(ast.parse(text, mode="eval")))
  except (ValueError, SyntaxError):
    return {"true": True, "false": False}.get(text.lower(), text)


def _convert(key: str, text: str, old):
  if isinstance(old, str):
    return text
  value = literal(text)
  last = key.rpartition(".")[2]
  if last in _DURATIONS and not isinstance(value, bool):
    number = isinstance(value, int | float)
    whole = number and float(value).is_integer() and value > 1
    return int(value) if whole else value
  if isinstance(old, bool):
    fits = isinstance(value, bool)
  elif isinstance(old, int):
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    fits = fits and float(value).is_integer()
    value = int(value) if fits else value
  elif isinstance(old, float):
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    value = float(value) if fits else value
  elif isinstance(old, tuple | list):
    value = text.split(",") if isinstance(value, str) else value
    fits = isinstance(value, tuple | list)
    value = tuple(value) if fits else value
  elif isinstance(old, ConfigDict):
    fits = isinstance(value, dict)
    value = ConfigDict(value) if fits else value
  else:
    fits = True
  if not fits and isinstance(old, ConfigDict):
    shown = ", ".join(f"{k}={v!r}" for k, v in old.to_dict().items())
    raise errors.UserError(
      f"config.{key} is dict({shown}); found {text!r}, expected another "
      "dict(...)."
    )
  if not fits:
    raise errors.UserError(
      f"config.{key} is {old!r}, a {type(old).__name__}; found {text!r}."
    )
  return value
