"""Files that are never half-written."""

import contextlib
import hashlib
import json
import os
import pathlib
import stat
import tempfile
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replacing(path, mode: str = "w") -> Iterator[Any]:
  """Opens a temporary file that takes the place of `path` when closed well.

  Until then `path` stays as it was, also after an error or a killed process.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(
    dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
  )
  encoding = None if "b" in mode else "utf-8"
  try:
    with os.fdopen(handle, mode, encoding=encoding) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.chmod(temporary, _mode(path))
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)
    raise


def _mode(path: pathlib.Path) -> int:
  """Permissions of the old file, or what the umask gives a new one."""
  if path.exists():
    return stat.S_IMODE(path.stat().st_mode)
  # The umask can only be read by setting it.
  mask = os.umask(0o022)
  os.umask(mask)
  return 0o666 & ~mask


def write_json(path, value, *, indent: int | None = 2) -> None:
  """Writes JSON with sorted keys, atomically."""
  with replacing(path) as file:
    json.dump(value, file, indent=indent, sort_keys=True, ensure_ascii=False)
    file.write("\n")


def sha256(path) -> str:
  """Hex digest of a file's bytes, read in pieces."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value) -> str:
  """Hex digest of plain data (dicts, lists, numbers, strings)."""
  text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
  return hashlib.sha256(text.encode()).hexdigest()
