"""Checkpoints: orbax folders, one a step, checked when they are read.

A checkpoint holds three items: `params`, `rest` (step, optimizer state, extra,
key) and `meta` (plain data: config, facts, progress, and a fingerprint of
every array). Leaves are stored by path, so that neither the mesh nor the
Python classes of optimizer states matter when they are read.
"""

import contextlib
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxlm import errors, paths
from jaxlm.training import fingerprint as fingerprints
from jaxlm.training.checkpoint_files import (
  latest,
  load_params,
  locate,
  quiet,
  read,
  refuse_incomplete,
  steps_of,
)
from jaxlm.training.disk import is_disk_full
from jaxlm.training.state import TrainState

__all__ = ["Checkpoints", "Restored", "latest", "load_params", "locate", "read"]

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
    refuse_incomplete(self.folder)
    quiet()
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
    with _told_if_full(self.folder):
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
    with _told_if_full(self.folder):
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


@contextlib.contextmanager
def _told_if_full(folder: pathlib.Path):
  """Turns a full disk into a sentence that names the last good checkpoint."""
  try:
    yield
  except Exception as error:
    if not is_disk_full(error):
      raise
    good = max(steps_of(folder), default=None)
    kept = "There is no checkpoint yet"
    if good is not None:
      kept = f"The last good checkpoint, {folder / str(good)}, is untouched"
    raise errors.UserError(
      f"No space left to save a checkpoint in {folder}. {kept}; free some "
      "space (or lower config.checkpoint.keep) and run the same command again."
    ) from error
