"""Checkpoints as files: found, read, checked; what is wrong is told."""

import functools
import logging
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxlm import errors, paths
from jaxlm.training import fingerprint as fingerprints


def latest(folder) -> int | None:
  """The newest complete checkpoint's step, or None.

  Args:
    folder: a workdir, or its `checkpoints`.
  """
  return max(steps_of(locate(folder)), default=None)


def load_params(folder, step: int | None = None) -> tuple[dict, dict]:
  """Parameters without the training objects.

  Args:
    folder: a workdir, its `checkpoints`, or the folder of one step.
    step: which; default: the newest.

  Returns:
    Nested dicts of host arrays, and the checkpoint's plain data (`config`,
    `facts`, `step`, ...).

  Raises:
    UserError: there is no checkpoint, or it is damaged.
  """
  folder = locate(folder)
  if step is None and folder.name.isdigit() and (folder / "params").exists():
    folder, step = folder.parent, int(folder.name)
  refuse_incomplete(folder)
  steps = steps_of(folder)
  if step is None:
    step = max(steps, default=None)
  if step not in steps:
    known = ", ".join(map(str, sorted(steps))) or "none"
    which = "" if step is None else f" of step {step}"
    raise errors.UserError(
      f"{folder} has no checkpoint{which}. Steps found: {known}."
    )
  got = read(folder, step, {"params": None})
  return paths.unflatten(got["params"]), got["meta"]


def locate(folder) -> pathlib.Path:
  """The folder of checkpoints that a workdir or a path into it means."""
  folder = pathlib.Path(folder).absolute()
  inside = folder / "checkpoints"
  return inside if inside.is_dir() else folder


def read(folder, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
  """Items of a checkpoint, checked against their fingerprints.

  Args:
    folder: of the checkpoints.
    step: which.
    like: item -> {path: shape with a sharding}, or None for host arrays of
      all that was saved.

  Returns:
    item -> {path: array}, and `meta`.

  Raises:
    UserError: damage, or paths and shapes other than those of `like`.
  """
  quiet()
  place = pathlib.Path(folder) / str(step)
  try:
    handler = ocp.PyTreeCheckpointHandler()
    meta = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(place / "meta")
    saved = {item: meta["fingerprint"][item] for item in like}
    shapes = {
      item: paths.flatten(dict(handler.metadata(place / item).tree))
      for item in like
    }
  except Exception as error:
    raise _damaged(place, error) from error
  for item, wanted in like.items():
    if wanted is not None:
      _check_shapes(place, item, shapes[item], wanted)
  result: dict[str, Any] = {"meta": meta}
  for item, wanted in like.items():
    try:
      result[item] = _read_arrays(place / item, wanted)
      found = fingerprints.fingerprint(result[item])
    except Exception as error:
      raise _damaged(place, error) from error
    wrong = fingerprints.differences(saved[item], found)
    if wrong:
      raise _damaged(place, f"these arrays changed: {', '.join(wrong[:5])}")
  return result


def refuse_incomplete(folder: pathlib.Path) -> None:
  """Raises for a step's folder that lacks what a finished save has."""
  if not folder.is_dir():
    return
  for place in folder.iterdir():
    if place.name.isdigit() and place.is_dir():
      parts = ("params", "rest", "meta", "_CHECKPOINT_METADATA")
      missing = [name for name in parts if not (place / name).exists()]
      if missing:
        raise _damaged(place, f"it lacks {', '.join(missing)}")


@functools.cache
def quiet() -> None:
  """Turns off what orbax prints besides raising it."""
  # orbax warns of each sharding that it reads without a file of shardings,
  # and its threads print the traces of errors that are raised besides.
  logging.getLogger("absl").setLevel(logging.CRITICAL)
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  before = sys.unraisablehook

  def hook(found):
    # What tensorstore still had to say when a save or a read had failed.
    if str(found.exc_value) != "Event loop is closed":
      before(found)

  sys.unraisablehook = hook


def steps_of(folder: pathlib.Path) -> list[int]:
  """Steps that have a complete checkpoint, in any order."""
  if not folder.is_dir():
    return []
  return list(ocp.utils.checkpoint_steps(folder))


def _read_arrays(place, wanted):
  checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
  tree = dict(checkpointer.metadata(place).item_metadata.tree)
  restore_args = jax.tree.map(
    lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
  )
  if wanted is not None:
    target = paths.unflatten(wanted)
    restore_args = ocp.checkpoint_utils.construct_restore_args(target)
  restored = checkpointer.restore(
    place, args=ocp.args.PyTreeRestore(restore_args=restore_args)
  )
  return paths.flatten(restored)


def _check_shapes(place, item, saved, wanted) -> None:
  wrong = []
  for path in sorted({*saved, *wanted}):
    here, there = _told(wanted.get(path)), _told(saved.get(path))
    if here != there:
      wrong.append(f"{path}: checkpoint {there}, config {here}")
  if not wrong:
    return
  what = "model" if item == "params" else "optimizer"
  left = f"\n  and {len(wrong) - 20} more" if len(wrong) > 20 else ""
  raise errors.UserError(
    f"Checkpoint {place} is of another {what}:\n  "
    + "\n  ".join(wrong[:20])
    + left
  )


def _told(leaf) -> str:
  if leaf is None:
    return "absent"
  return f"{tuple(leaf.shape)} {np.dtype(leaf.dtype).name}"


def _damaged(place: pathlib.Path, why) -> errors.UserError:
  reason = str(why).strip().splitlines() or [type(why).__name__]
  return errors.UserError(
    f"Checkpoint {place} is damaged or half-written: {reason[0][:300]} "
    "Nothing was overwritten. Remove that folder to go on from the checkpoint "
    "before it, or bring it back from a copy."
  )
