"""Checkpoints: orbax folders, one a step, checked when they are read.

A checkpoint holds three items: `params`, `rest` (step, optimizer state, extra,
key) and `meta` (plain data: config, facts, progress, and a fingerprint of
every array). Leaves are stored by path, so that neither the mesh nor the
Python classes of optimizer states matter when they are read.
"""

import errno
import logging
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxlm import errors, paths
from jaxlm.training import fingerprint as fingerprints
from jaxlm.training.state import TrainState

_LOSS = "loss"
_TRASH = "deleted"


class Restored(NamedTuple):
  """A checkpoint that was read: the state and its plain data."""

  state: TrainState
  meta: Mapping[str, Any]


class Checkpoints:
  """The checkpoints of a run, saved in the background.

  Kept are the newest `keep` and the one of the lowest validation loss. A save
  is a folder that takes its name when it is complete; what a killed process
  left half-written is removed at the next start.

  Args:
    folder: where the folders of the steps are.
    keep: how many of the newest to keep.

  Raises:
    UserError: `keep` is below 1, or a folder there is not complete.
  """

  def __init__(self, folder, keep: int = 3):
    if keep < 1:
      raise errors.UserError(
        f"config.checkpoint.keep is {keep}, expected 1 or more."
      )
    self.folder = pathlib.Path(folder).absolute()
    _refuse_incomplete(self.folder)
    _quiet()
    policy = preservation_policy.AnyPreservationPolicy(
      [
        preservation_policy.LatestN(keep),
        preservation_policy.BestN(
          get_metric_fn=lambda metrics: -metrics[_LOSS],
          n=1,
          keep_checkpoints_without_metrics=False,
        ),
      ]
    )
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy,
        cleanup_tmp_directories=True,
        # Renamed before it is deleted: a kill in between would leave half a
        # checkpoint, which is what damage looks like.
        todelete_subdir=_TRASH,
      ),
    )
    self._empty_trash()

  def steps(self) -> list[int]:
    """Steps that have a complete checkpoint, ascending."""
    return sorted(self._manager.all_steps())

  def newest(self) -> int | None:
    """The last of `steps`, or None."""
    return max(self.steps(), default=None)

  def save(
    self, state: TrainState, meta: Mapping[str, Any], loss: float | None = None
  ) -> None:
    """Starts a save; returns when the state may be donated again.

    Args:
      state: the state; its step names the checkpoint. A step that is saved
        already is left alone.
      meta: plain data that JSON can hold.
      loss: validation loss of this state, for keeping the best.

    Raises:
      UserError: the disk is full (now, or in the save before).
    """
    step = int(state.step)
    params, rest = _split(state)
    sums = {
      "params": fingerprints.fingerprint(params),
      "rest": fingerprints.fingerprint(rest),
    }
    with _disk_errors(self):
      if step in self._manager.all_steps():
        return
      self._manager.wait_until_finished()
      self._empty_trash()
      self._manager.save(
        step,
        args=ocp.args.Composite(
          params=ocp.args.StandardSave(paths.unflatten(params)),
          rest=ocp.args.StandardSave(paths.unflatten(rest)),
          meta=ocp.args.JsonSave({**meta, "fingerprint": sums}),
        ),
        metrics=None if loss is None else {_LOSS: loss},
        force=True,
      )

  def wait(self) -> None:
    """Returns when what was saved is on disk.

    Raises:
      UserError: the disk is full.
    """
    with _disk_errors(self):
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits and lets go of threads."""
    self.wait()
    self._empty_trash()
    self._manager.close()

  def _empty_trash(self) -> None:
    if jax.process_index() == 0:
      shutil.rmtree(self.folder / _TRASH, ignore_errors=True)

  def restore(self, like: TrainState, step: int | None = None) -> Restored:
    """Reads a checkpoint onto the devices that `like` says.

    Args:
      like: a state of `jax.ShapeDtypeStruct` with shardings, of any mesh.
      step: which; default: the newest.

    Raises:
      UserError: it is damaged, or of another model or optimizer.
    """
    step = self.newest() if step is None else step
    params, rest = _split(like)
    got = read(self.folder, step, {"params": params, "rest": rest})
    return Restored(_join(like, got["params"], got["rest"]), got["meta"])


def latest(folder) -> int | None:
  """The newest complete checkpoint's step, or None.

  Args:
    folder: a workdir, or its `checkpoints`.
  """
  return max(_steps(locate(folder)), default=None)


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
  _refuse_incomplete(folder)
  steps = _steps(folder)
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
  _quiet()
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


def _split(state: TrainState):
  """({path: leaf} of the parameters, {path: leaf} of the rest)."""
  rest = {
    "step": state.step,
    "opt_state": state.opt_state,
    "extra": state.extra,
    "key": state.key,
  }
  return paths.flatten(state.params), paths.flatten(rest)


def _join(like: TrainState, params, rest) -> TrainState:
  """The inverse of `_split`, in the structure of `like`."""

  def fill(tree, leaves, prefix=""):
    return jax.tree_util.tree_map_with_path(
      lambda path, _: leaves[prefix + paths.name(path)], tree
    )

  return TrainState(
    step=rest["step"],
    params=fill(like.params, params),
    opt_state=fill(like.opt_state, rest, "opt_state/"),
    extra=fill(like.extra, rest, "extra/"),
    key=rest["key"],
  )


def _check_shapes(place, item, saved, wanted) -> None:
  wrong = []
  for path in sorted({*saved, *wanted}):
    here = tuple(wanted[path].shape) if path in wanted else "absent"
    there = tuple(saved[path].shape) if path in saved else "absent"
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


def _steps(folder: pathlib.Path) -> list[int]:
  if not folder.is_dir():
    return []
  return list(ocp.utils.checkpoint_steps(folder))


def _refuse_incomplete(folder: pathlib.Path) -> None:
  """Raises for a step's folder that lacks what a finished save has."""
  if not folder.is_dir():
    return
  for place in folder.iterdir():
    if place.name.isdigit() and place.is_dir():
      parts = ("params", "rest", "meta", "_CHECKPOINT_METADATA")
      missing = [name for name in parts if not (place / name).exists()]
      if missing:
        raise _damaged(place, f"it lacks {', '.join(missing)}")


def _damaged(place: pathlib.Path, why) -> errors.UserError:
  reason = str(why).strip().splitlines() or [type(why).__name__]
  return errors.UserError(
    f"Checkpoint {place} is damaged or half-written: {reason[0][:300]} "
    "Nothing was overwritten. Remove that folder to go on from the checkpoint "
    "before it, or bring it back from a copy."
  )


class _disk_errors:
  """Turns a full disk into a sentence that names the last good checkpoint."""

  def __init__(self, checkpoints: Checkpoints):
    self._checkpoints = checkpoints

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    if error is None or not is_disk_full(error):
      return
    folder = self._checkpoints.folder
    good = max(_steps(folder), default=None)
    kept = (
      "There is no checkpoint yet"
      if good is None
      else (f"The last good checkpoint, {folder / str(good)}, is untouched")
    )
    raise errors.UserError(
      f"No space left to save a checkpoint in {folder}. {kept}; free some "
      "space (or lower config.checkpoint.keep) and run the same command again."
    ) from error


def is_disk_full(error: BaseException | None) -> bool:
  """Whether an error, or what it came from, says that the disk is full."""
  while error is not None:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
      return True
    if "No space left on device" in str(error):
      return True
    error = error.__cause__ or error.__context__
  return False


def _quiet() -> None:
  # orbax warns of each sharding that it reads without a file of shardings.
  logging.getLogger("absl").setLevel(logging.ERROR)
