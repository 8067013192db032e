"""A run's folder: whose it is, and that one process alone writes to it."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from jaxlm import errors, files

# Keys that say how a run is watched, paid for or laid out, not what it is.
# `steps` is not among them: the schedule is a function of the run's length,
# so a longer run is another run (start it with config.init_from).
FREE = ("log", "checkpoint", "mesh", "cost")


def claim(workdir, config: Mapping[str, Any]) -> None:
  """Writes `workdir/config.json`, after `check`.

  Args:
    workdir: the folder; made if absent.
    config: plain data. Keys under `log`, `checkpoint`, `mesh` and `cost` may
      change between sessions of a run; the file then takes the new values.

  Raises:
    UserError: see `check`.
  """
  path = pathlib.Path(workdir) / "config.json"
  if check(workdir, config) != _plain(config):
    files.write_json(path, _plain(config))


def check(workdir, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
  """The config that `workdir` holds, if `config` may go on there.

  Writes nothing: mistakes that show later must not claim the folder.

  Raises:
    UserError: the folder belongs to another config; each key that differs is
      listed, or its config.json cannot be read.
  """
  workdir = pathlib.Path(workdir)
  path = workdir / "config.json"
  if path.exists():
    found = _read(path)
    changed = differences(_bound(found), _bound(_plain(config)))
    if changed:
      raise errors.UserError(
        f"{workdir} belongs to a run with another config:\n  "
        + "\n  ".join(changed)
        + "\nUse another --workdir, or the config that it began with."
      )
    return found
  if (workdir / "checkpoints").is_dir() and any(
    (workdir / "checkpoints").iterdir()
  ):
    raise errors.UserError(
      f"{workdir} has checkpoints but no config.json, so whose they are is "
      "unknown. Use another --workdir."
    )
  return None


def plain(value):
  """What JSON makes of a value; what it cannot hold becomes text."""
  return json.loads(json.dumps(value, default=str))


def differences(old, new, prefix: str = "") -> list[str]:
  """One line for each key whose value differs, as 'a.b: old -> new'."""
  if isinstance(old, Mapping) and isinstance(new, Mapping):
    lines = []
    for key in sorted({*old, *new}):
      name = f"{prefix}.{key}" if prefix else str(key)
      lines += differences(old.get(key, _ABSENT), new.get(key, _ABSENT), name)
    return lines
  return [] if old == new else [f"{prefix}: {old!r} there, {new!r} now"]


@contextlib.contextmanager
def lock(workdir) -> Iterator[None]:
  """Holds `workdir/.lock`; a killed process lets go of it.

  Raises:
    UserError: another process holds it.
  """
  try:
    import fcntl
  except ImportError:  # not on Windows
    yield
    return
  path = pathlib.Path(workdir) / ".lock"
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, "a+") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise errors.UserError(
        f"Process {file.read().strip() or '?'} is training in {workdir} now. "
        "Wait for it, or use another --workdir."
      ) from None
    except OSError:
      pass  # a file system without locks
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    yield


class _Absent:
  def __repr__(self):
    return "absent"


_ABSENT = _Absent()


def _plain(config):
  """What JSON makes of it, so that tuples and lists compare alike."""
  return json.loads(json.dumps(config, default=str))


def _bound(config):
  return {k: v for k, v in config.items() if k not in FREE}


def _read(path):
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise errors.UserError(f"Cannot read {path}: {error}") from error
