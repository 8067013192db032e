"""The demo's corpus: the documentation that every CPython carries.

Docstrings of the standard library, found by parsing its sources (nothing is
imported), and the language reference that `help()` shows
(`pydoc_data.topics`). About 8,000 texts, 2 MB of real English about Python.
Standard library only.

Files, not texts, are divided among training, validation and test: texts of
one file resemble each other. Inside a package the files are ordered by a hash
of their path and given to the split that is furthest below its share, so each
package that has several files is seen in every split. The language reference
is all training text.
"""

import ast
import hashlib
import inspect
import os
import pathlib
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from typing import TypedDict

from jaxlm import errors

SPLITS = ("train", "validation", "test")
SHARES = {"train": 0.80, "validation": 0.07, "test": 0.13}
TOPICS = "pydoc_data/topics.py"

_FEWEST = 2000  # texts; a whole Python holds about 8,000
_SHORTEST = 4  # words
_SKIPPED = (
  "site-packages",
  "dist-packages",
  "__pycache__",
  "test",
  "tests",
  "idle_test",
  "ensurepip",
  "turtledemo",
)
_DOCUMENTED = (
  ast.Module,
  ast.ClassDef,
  ast.FunctionDef,
  ast.AsyncFunctionDef,
)


class Record(TypedDict):
  """One text and where it stands.

  `file` is relative to the standard library, with '/'; `module` is the
  top-level module, 'email' for email/mime/text.py.
  """

  text: str
  file: str
  module: str


def collect(root=None) -> list[Record]:
  """All texts of a Python installation, each once, in the order of the files.

  Args:
    root: the folder of the standard library; this Python's where None.

  Raises:
    UserError: the folder holds too few sources, as in a Python installation
      whose .py files were stripped.
  """
  root = pathlib.Path(root or sysconfig.get_path("stdlib"))
  records, seen = [], set()
  for file in _files(root):
    for text in _texts(root, file):
      if text not in seen and _keeps(text):
        seen.add(text)
        records.append(Record(text=text, file=file, module=_module(file)))
  if len(records) < _FEWEST:
    raise errors.UserError(_stripped(root, len(records)))
  return records


def split(records: Iterable[Record]) -> dict[str, list[Record]]:
  """{'train', 'validation', 'test'} -> records; no file is in two of them."""
  records = list(records)
  place = assign(records)
  return {
    name: [r for r in records if place[r["file"]] == name] for name in SPLITS
  }


def assign(records: Iterable[Record]) -> dict[str, str]:
  """File -> split. A pure function of the paths and their texts' lengths."""
  packages: dict[str, dict[str, int]] = {}
  place = {}
  for record in records:
    file, size = record["file"], len(record["text"])
    if file == TOPICS:
      place[file] = "train"
      continue
    # Modules of one file form one group: their shares are kept together.
    group = record["module"] if "/" in file else ""
    sizes = packages.setdefault(group, {})
    sizes[file] = sizes.get(file, 0) + size
  for sizes in packages.values():
    place |= _divide(sizes)
  return place


def _divide(sizes: dict[str, int]) -> dict[str, str]:
  total, place = sum(sizes.values()), {}
  given = dict.fromkeys(SPLITS, 0)
  for file in sorted(sizes, key=_hash):
    lack = {s: SHARES[s] * total - given[s] for s in SPLITS}
    # A file larger than what a small split lacks goes to training.
    fits = [s for s in SPLITS[1:] if lack[s] >= 0.5 * sizes[file]]
    place[file] = max(fits, key=lack.get) if fits else "train"
    given[place[file]] += sizes[file]
  return place


def _hash(file: str) -> str:
  return hashlib.sha256(file.encode()).hexdigest()


def _files(root: pathlib.Path) -> Iterator[str]:
  """The library's .py files, sorted, relative, with '/'."""
  found = []
  for folder, folders, names in os.walk(root):
    folders[:] = [f for f in folders if not _is_skipped(f)]
    for name in names:
      if name.endswith(".py") and not name.startswith("test_"):
        path = pathlib.Path(folder, name).relative_to(root)
        found.append(path.as_posix())
  return iter(sorted(found))


def _is_skipped(folder: str) -> bool:
  return folder in _SKIPPED or folder.startswith((".", "config-"))


def _module(file: str) -> str:
  return file.split("/")[0].removesuffix(".py")


def _texts(root: pathlib.Path, file: str) -> Iterator[str]:
  tree = _parse(root / file)
  if tree is None:
    return
  if file == TOPICS:
    yield from _topics(tree)
    return
  for node in ast.walk(tree):
    if isinstance(node, _DOCUMENTED):
      text = ast.get_docstring(node, clean=True)
      if text:
        yield text.strip()


def _parse(path: pathlib.Path) -> ast.Module | None:
  """The syntax tree, or None where this Python cannot read the file."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # invalid escapes in old sources
      return ast.parse(path.read_bytes(), filename=str(path))
  except (SyntaxError, ValueError, RecursionError, OSError):
    return None


def _topics(tree: ast.Module) -> Iterator[str]:
  """The sections of the language reference.

  Its topics quote each other, so paragraphs are kept where they come first.
  """
  seen = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Dict):
      for value in node.values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
          yield from _sections(inspect.cleandoc(value.value), seen)


def _sections(topic: str, seen: set[str]) -> Iterator[str]:
  section: list[str] = []
  for paragraph in topic.split("\n\n"):
    if paragraph.strip() in seen:
      continue
    seen.add(paragraph.strip())
    if _is_heading(paragraph) and section:
      yield "\n\n".join(section).strip()
      section = []
    section.append(paragraph)
  if section:
    yield "\n\n".join(section).strip()


def _is_heading(paragraph: str) -> bool:
  """A title above a line of '*', '=', '-' or '~'."""
  lines = paragraph.strip().split("\n")
  rule = lines[-1].strip()
  return len(lines) == 2 and len(rule) > 2 and set(rule) <= set("*=-~")


def _keeps(text: str) -> bool:
  words = text.split()
  letters = sum(c.isalpha() for c in text)
  return (
    len(words) >= _SHORTEST
    and letters >= 0.5 * sum(len(w) for w in words)
    and _is_utf8(text)
  )


def _is_utf8(text: str) -> bool:
  try:
    text.encode()
  except UnicodeEncodeError:  # half a surrogate pair
    return False
  return True


def _stripped(root, found: int) -> str:
  version = ".".join(map(str, sys.version_info[:3]))
  return (
    f"The demo reads the documentation inside Python's own sources, but "
    f"'{root}' holds only {found} texts; a whole Python has about 8,000. "
    f"This Python ({version}, {sys.executable}) seems to be stripped of its "
    ".py files. Use one that has them, such as python.org's, pyenv's, "
    "Debian's or the 'python:3.12' image: make demo PYTHON=/path/to/python3."
  )
