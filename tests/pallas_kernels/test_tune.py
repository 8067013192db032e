import json
import math

import jax.numpy as jnp
import pytest

from pallas_kernels import _dispatch, _estimate, _problems, _spaces, tune
from pallas_kernels.testing import targets

SIZES = _estimate.Attention(64, 64, 2)
H200 = targets.get("h200").fast_memory


def problem(*args, implementation="triton", op="flash_attention"):
  options = tune._parser().parse_args([f"--op={op}", *args])
  return _problems.make(options, implementation, H200)


def wants(**wished):
  """A cost that is 1 + the number of fields unlike what is wished."""
  asked = []

  def cost(problem, blocks, group):
    asked.append(blocks)
    fields = blocks.get(group.name, {})
    far = sum(fields.get(k) != v for k, v in wished.get(group.name, {}).items())
    return tune.Tried(blocks, 1.0 + far, "wishes")

  cost.asked = asked
  return cost


def test_each_kernel_gets_its_best_tiles():
  best = dict(
    forward=dict(block_q=128, block_k=64, num_warps=8, num_stages=3),
    dkv=dict(block_q=32, block_k=128, num_warps=8, num_stages=1),
  )
  tried = tune.search(problem(), wants(**best))
  found = tried[-1][0].blocks
  assert found["forward"] == best["forward"]
  assert found["dkv"] == best["dkv"]
  # Of equals the kernel's own tiles stay.
  assert found["dq"] == problem().blocks["dq"]
  assert [len(rows) > 1 for rows in tried] == [True] * 4


def test_what_cannot_fit_is_not_tried():
  cost = wants()
  given = problem("--head-dim=128", "--dtype=float32")
  tune.search(given, cost)
  wide = _estimate.Attention(128, 128, 4)
  launches = [blocks["forward"] for blocks in cost.asked]
  tried = [each for each in launches if each != given.blocks["forward"]]
  refusals = [
    _estimate.attention_forward_gpu(wide, **each, shared_memory=H200)
    for each in tried
  ]
  assert len(tried) > 1 and refusals == [None] * len(tried)


def test_static_figures_leave_the_pipeline_alone():
  cost = wants()
  tune.search(problem(), cost, static=True)
  stages = {blocks["forward"]["num_stages"] for blocks in cost.asked}
  assert stages == {2}


def test_kernels_that_are_not_there_are_not_tuned():
  def absent(problem, blocks, group):
    return tune.Tried(blocks, 0.0, "nothing")

  tried = tune.search(problem(), absent)
  assert [len(rows) for rows in tried] == [1, 1, 1, 1]


def test_no_tile_that_works_is_an_error():
  def broken(problem, blocks, group):
    return tune.Tried(blocks, math.inf, "it spills")

  with pytest.raises(ValueError, match="forward: it spills"):
    tune.search(problem(), broken)


def test_estimates_know_the_size_of_the_machine():
  forward = _estimate.attention_forward_gpu
  tile = dict(block_q=128, block_k=128, num_warps=8, num_stages=2)
  assert forward(SIZES, **tile, shared_memory=H200) is None
  few = forward(SIZES, **tile, shared_memory=48 << 10)
  # Two stages of key and value, and the queries: 2 * 32 + 16 KiB.
  assert "80 KiB of shared memory, 48 are there" in few
  registers = forward(SIZES, **{**tile, "num_warps": 1}, shared_memory=H200)
  # (128 * 128 scores + 128 * 64 output) / 32 threads + 24.
  assert "792 registers" in registers
  tpu = _estimate.attention_tpu
  assert tpu(SIZES, block_q=512, block_k=512, backward=True) is None
  assert "VMEM" in tpu(SIZES, block_q=2048, block_k=2048, backward=True)


def test_times_are_medians_of_warm_runs():
  ticks = iter(range(10_000))
  spent = []

  def clock():  # every run takes one tick more than the one before
    spent.append(next(ticks))
    return 1e-6 * sum(spent)

  run = lambda x: x + 1
  found = tune._time(run, (jnp.zeros(2),), clock)
  # Run n (from 0) ends 2 n + 1 ticks after it began; 3 are warm-up.
  assert found == pytest.approx(2 * (3 + 9.5) + 1)


def entries(times=None, *args):
  p = problem(*args)
  tried = [[tune.Tried(p.blocks, 5.0, "instructions")]]
  return p, tune.entries_of(p, tried, times)


def test_static_entries_are_never_chosen():
  p, (entry,) = entries()
  assert entry["choose"] is False
  assert entry["source"]["kind"] == "static"
  assert "not timed" in entry["source"]["note"]
  assert entry["blocks"] == p.blocks


def test_the_fastest_is_chosen():
  _, (fast,) = entries({"triton": 10.0, "reference": 20.0})
  assert fast["choose"] and fast["implementation"] == "triton"
  _, (other, own) = entries({"triton": 30.0, "reference": 20.0})
  assert other["choose"] and other["implementation"] == "reference"
  assert not own["choose"] and own["blocks"]


def test_entries_are_read_back_by_the_dispatch(tmp_path, monkeypatch):
  p, found = entries({"triton": 10.0, "reference": 20.0}, "--segments")
  path = tune.write(found, "NVIDIA H200", tmp_path, force=False)
  assert path.name == "nvidia_h200.json"
  monkeypatch.setenv(_dispatch.VARIABLE, str(tmp_path))
  device = _dispatch.Device("gpu", "NVIDIA H200")
  known = ("reference", "triton")
  assert _dispatch.pick(p.case, device, known).blocks == p.blocks
  assert p.case.features == {"segments"}


def test_nothing_is_overwritten_unasked(tmp_path):
  _, found = entries()
  path = tune.write(found, "NVIDIA H200", tmp_path, force=False)
  before = path.read_text()
  _, other = entries(None, "--length=2048")
  tune.write(other, "NVIDIA H200", tmp_path, force=False)
  assert len(json.loads(path.read_text())["entries"]) == 2
  changed = {**found[0], "blocks": None}
  with pytest.raises(FileExistsError, match="--force"):
    tune.write([changed], "NVIDIA H200", tmp_path, force=False)
  assert before != path.read_text()
  tune.write([changed], "NVIDIA H200", tmp_path, force=True)
  assert len(json.loads(path.read_text())["entries"]) == 2
  assert json.loads(path.read_text())["entries"][0]["blocks"] is None


def test_choices_change_only_their_kernel():
  base = {"a": {"x": 1, "y": 2}, "b": 3}
  assert _spaces.merged(base, {"a": {"y": 5}}) == {
    "a": {"x": 1, "y": 5},
    "b": 3,
  }
  assert base["a"]["y"] == 2


@pytest.mark.parametrize("op, implementation", list(_spaces.spaces()))
def test_every_space_has_tiles_that_fit(op, implementation):
  p = problem(op=op, implementation=implementation)
  assert p.groups
  for group in p.groups:
    fitting = [c for c in group.choices if group.refuse(c) is None]
    assert len(fitting) > 1
    assert all(group.elements(_spaces.merged(p.blocks, c)) > 0 for c in fitting)


def test_tuning_on_the_device_that_is_here(tmp_path, monkeypatch, capsys):
  """The command as a whole; kernels run as their interpreted form."""

  def fake(function, args, clock):
    return 7.0

  monkeypatch.setattr(tune, "_time", fake)
  code = tune.main(
    [
      "--op=flash_attention",
      "--implementation=triton",
      f"--out={tmp_path}",
      "--length=64",
      "--batch=1",
      "--heads=1",
      "--limit=1",
    ]
  )
  assert code == 0
  (path,) = tmp_path.iterdir()
  assert path.name == "cpu.json" and "forward:" in capsys.readouterr().out
  entry = json.loads(path.read_text())["entries"][0]
  assert entry["source"]["microseconds"] == {"triton": 7.0, "reference": 7.0}
