"""The benchmark of the train step: jaxlm alone, tiny, and its numbers sane."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import _documents, _workers, train_step

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
  return _documents.pool(
    updates=2,
    rows=32,  # so many that the last, which takes the rest, counts little
    length=64,
    vocab_size=1024,
    folder=str(tmp_path_factory.mktemp("vocabulary")),
  )


@pytest.mark.slow
def test_rows_hold_each_document_once_and_little_padding(pool):
  used = np.concatenate([i for rows in pool.rows for i in rows])
  assert sorted(used) == list(range(len(pool.documents)))
  assert 0.9 * 2 * 32 * 64 < pool.tokens <= 2 * 32 * 64
  for document in pool.documents:
    assert document[0] == pool.specials["cls"]
    assert document[-1] == pool.specials["sep"]
    assert len(document) <= 64


@pytest.mark.slow
def test_packed_batch(pool):
  batch = _documents.packed_batch(pool, 0, seed=0)
  real = batch["segments"] > 0
  assert real.sum() == sum(len(d) for d in pool.of_update(0))
  weights = batch["predict_weights"] > 0
  share = weights.sum() / real.sum()
  assert 0.1 < share <= 0.15
  row = np.arange(32)[:, None]
  shown = batch["inputs"][row, batch["predict_positions"]][weights]
  masked = np.mean(shown == pool.specials["mask"])
  assert 0.5 < masked < 1.0  # 8 of 10
  # What is predicted is what stood there; nothing else was changed.
  whole = batch["inputs"].copy()
  np.put_along_axis(
    whole,
    np.where(weights, batch["predict_positions"], 0),
    np.where(weights, batch["predict_ids"], pool.specials["cls"]),
    axis=1,
  )
  for r, members in enumerate(pool.rows[0]):
    want = np.concatenate([pool.documents[i] for i in members])
    np.testing.assert_array_equal(whole[r, : len(want)], want)


def test_rounds_visit_other_batches():
  seen = [_workers._chosen(32, index, 4) for index in range(8)]
  assert all(len(set(chosen)) == 4 for chosen in seen)
  assert sorted(i for chosen in seen for i in chosen) == list(range(32))
  assert _workers._chosen(2, 5, 4) == [0, 1]


def test_unknown_contender():
  with pytest.raises(SystemExit, match="No contender .*'torch'.*jaxlm"):
    train_step.main(["--contenders=torch"])


@pytest.mark.slow
def test_quick_run(tmp_path):
  file = tmp_path / "numbers.json"
  done = subprocess.run(
    [sys.executable, "benchmarks/train_step.py", "--quick", f"--json={file}"],
    cwd=ROOT,
    env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  assert "| jaxlm | 0.0" in done.stdout
  found = json.loads(file.read_text())["results"]["jaxlm"]
  assert 0 < found["slowest"] <= found["tokens_per_second"] <= found["fastest"]
  assert 0.5 < found["real_share"] <= 1.0
  assert 5.0 < found["loss"] < 8.0  # log(1024) is 6.9
  assert found["memory_bytes"] > 1e6
  assert len(found["rounds"]) == 2
