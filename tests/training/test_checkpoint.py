"""Checkpoints: any mesh, newest and best, damage and full disks told."""

import errno
import pathlib

import jax
import numpy as np
import optax
import pytest

from jaxlm import sharding
from jaxlm.errors import UserError
from jaxlm.training import checkpoint, disk
from jaxlm.training import state as states
from jaxlm.training.fingerprint import differences, fingerprint
from tests.training import toy

SPREAD = dict(data=2, fsdp=2, tensor=2)


def make(sizes=None, model=None, tx=None, fresh=True):
  mesh = sharding.make_mesh(**(sizes or dict(data=8)))
  make = states.create if fresh else states.abstract
  given = dict(seed=1) if fresh else {}
  return make(
    model or toy.ToyModel(),
    tx or optax.adam(1e-3),
    toy.task().batch_spec,
    mesh=mesh,
    **given,
  )


def at(state, step):
  return state.replace(step=jax.numpy.int32(step))


@pytest.fixture(scope="module")
def state():
  return make(SPREAD)


@pytest.fixture
def folder(tmp_path, state):
  checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints")
  for step in (1, 2):
    checkpoints.save(at(state, step), {"config": {"seed": step}})
  checkpoints.close()
  return tmp_path / "checkpoints"


def test_it_comes_back_on_another_mesh(folder, state):
  like = make(dict(data=1, fsdp=8), fresh=False)
  got, meta = checkpoint.Checkpoints(folder).restore(like)
  jax.tree.map(np.testing.assert_array_equal, got, at(state, 2))
  assert jax.tree.structure(got) == jax.tree.structure(state)
  assert states.shardings_of(got) == states.shardings_of(like)
  assert meta["config"] == {"seed": 2}


def test_parameters_alone(folder, state):
  for place in (folder.parent, folder, folder / "1"):
    params, meta = checkpoint.load_params(place)
    jax.tree.map(np.testing.assert_array_equal, params, state.params)
    assert isinstance(params["table"], np.ndarray)
  assert meta["config"] == {"seed": 1}
  assert checkpoint.latest(folder.parent) == checkpoint.latest(folder) == 2
  with pytest.raises(UserError, match="no checkpoint of step 7.*1, 2"):
    checkpoint.load_params(folder, 7)
  with pytest.raises(UserError, match="no checkpoint.*none"):
    checkpoint.load_params(folder.parent / "elsewhere")
  assert checkpoint.latest(folder.parent / "elsewhere") is None


def test_the_newest_and_the_best_are_kept(tmp_path, state):
  checkpoints = checkpoint.Checkpoints(tmp_path, keep=2)
  for step, loss in enumerate([3.0, 1.0, 2.0, None, None, 1.5], start=1):
    checkpoints.save(at(state, step), {}, loss)
  checkpoints.close()
  assert checkpoints.steps() == [2, 5, 6]


def test_a_saved_step_is_not_saved_again(folder, state):
  checkpoints = checkpoint.Checkpoints(folder)
  before = (folder / "2").stat().st_mtime_ns
  checkpoints.save(at(state, 2), {})
  checkpoints.close()
  assert (folder / "2").stat().st_mtime_ns == before


def data_files(place):
  files = [p for p in pathlib.Path(place).rglob("d/*") if p.is_file()]
  assert files
  return files


def cut(file):
  file.write_bytes(file.read_bytes()[:-20])


def flip(file):
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 0x10
  file.write_bytes(content)


# orbax leaves threads behind when a read fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("hurt", [cut, flip, pathlib.Path.unlink])
@pytest.mark.parametrize("item", ["params", "rest"])
def test_damaged_arrays_are_told(folder, hurt, item):
  for file in data_files(folder / "2" / item):
    hurt(file)
  with pytest.raises(UserError, match=r"checkpoints/2 is damaged"):
    checkpoint.Checkpoints(folder).restore(make(fresh=False))


def test_a_changed_number_is_told_by_its_fingerprint(folder, state):
  sums = fingerprint(state.params)
  table = state.params["table"]
  changed = dict(state.params, table=table.at[3, 1].add(1e-6))
  other = fingerprint(changed)
  assert differences(sums, other) == ["table"]
  meta = folder / "2" / "meta" / "metadata"
  meta.write_text(meta.read_text().replace(str(sums["table"]), "12345"))
  with pytest.raises(UserError, match="checkpoints/2.*arrays changed: table"):
    checkpoint.load_params(folder)


@pytest.mark.parametrize("part", ["params", "rest", "meta"])
def test_a_half_written_folder_is_told(folder, part):
  (folder / "2" / part).rename(folder.parent / "gone")
  with pytest.raises(UserError, match=f"checkpoints/2 .*lacks {part}"):
    checkpoint.Checkpoints(folder)
  with pytest.raises(UserError, match=f"checkpoints/2 .*lacks {part}"):
    checkpoint.load_params(folder)


def test_broken_metadata_is_told(folder):
  (folder / "2" / "meta" / "metadata").write_text("{")
  with pytest.raises(UserError, match="checkpoints/2 is damaged"):
    checkpoint.load_params(folder)


def test_what_a_killed_save_left_is_passed_over(folder):
  left = folder / "3.orbax-checkpoint-tmp-9"
  left.mkdir()
  assert checkpoint.Checkpoints(folder).newest() == 2
  assert checkpoint.latest(folder) == 2
  assert not left.exists()


def test_another_model_is_told_by_path_and_shape(folder):
  like = make(model=toy.ToyModel(width=4), fresh=False)
  with pytest.raises(UserError) as caught:
    checkpoint.Checkpoints(folder).restore(like)
  message = str(caught.value)
  assert "2 is of another model" in message
  assert "table: checkpoint (17, 8) float32, config (17, 4) float32" in message


def test_another_optimizer_is_told(folder):
  like = make(tx=optax.sgd(0.1, momentum=0.9), fresh=False)
  with pytest.raises(UserError, match="another optimizer"):
    checkpoint.Checkpoints(folder).restore(like)


def test_a_full_disk_keeps_the_last_good_one(folder, state, monkeypatch):
  checkpoints = checkpoint.Checkpoints(folder)

  def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(checkpoints._manager, "save", full)
  with pytest.raises(UserError, match="No space left.*checkpoints/2, is unt"):
    checkpoints.save(at(state, 3), {})
  params, _ = checkpoint.load_params(folder)
  np.testing.assert_array_equal(params["table"], state.params["table"])


def test_a_disk_that_fills_in_the_background_is_told(tmp_path, state):
  """tensorstore reports it as text, from another thread."""
  error = ValueError(
    "RESOURCE_EXHAUSTED: Error writing: No space left on device"
  )
  assert disk.is_disk_full(RuntimeError("x")) is False
  wrapped = RuntimeError("save failed")
  wrapped.__cause__ = error
  assert disk.is_disk_full(wrapped)


def test_keep_is_checked(tmp_path):
  with pytest.raises(UserError, match="checkpoint.keep is 0"):
    checkpoint.Checkpoints(tmp_path, keep=0)
