"""Tasks: batch = f(seed, step), and seqio sees the same examples."""

import hashlib
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from jaxlm.data import cache, order, tasks
from jaxlm.data.corruption import corruptions
from jaxlm.errors import UserError
from tests.data import fakes

LENGTH = 24
SPECS = [
  (dict(kind="documents"), dict(kind="masking", rate=0.3)),
  (dict(kind="chunks", cross_document=False), dict(kind="causal")),
  (dict(kind="pairs"), dict(kind="masking", unit=dict(kind="span"))),
]
NAMES = [a["kind"] for a, _ in SPECS]


def texts():
  rng = np.random.default_rng(0)
  for i in range(120):
    words = rng.integers(5, 60, rng.integers(4, 30))
    yield (
      "validation" if i % 8 == 0 else "train",
      "\n".join(" ".join(map(str, w)) for w in np.array_split(words, 3)),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """arrangement kind -> (cache, corruption, tokenizer)."""
  tokenizer = fakes.NumberTokenizer()
  out = {}
  for arrangement, corruption in SPECS:
    corruption = corruptions.build(corruption)
    key = cache.key({}, "t", arrangement, corruption.text_length(LENGTH), 11)
    folder = tmp_path_factory.mktemp("tasks") / arrangement["kind"]
    held = cache.build(folder, key, texts(), tokenizer, lambda t: t.split("\n"))
    out[arrangement["kind"]] = (held, corruption, tokenizer)
  return out


def task_of(made, kind, batch_size=8, split="train", **more):
  held, corruption, tokenizer = made[kind]
  return tasks.make(
    held,
    split,
    corruption,
    tokenizer,
    batch_size=batch_size,
    length=LENGTH,
    name=split,
    **more,
  )


def digest(batch):
  sha = hashlib.sha256()
  for key in sorted(batch):
    sha.update(key.encode() + np.ascontiguousarray(batch[key]).tobytes())
  return sha.hexdigest()


@pytest.mark.parametrize("kind", NAMES)
def test_batches_are_as_specified(made, kind):
  task = task_of(made, kind)
  batch = task.batch_at(0, 0)
  assert batch.keys() == task.batch_spec.keys()
  for key, spec in task.batch_spec.items():
    assert isinstance(spec, jax.ShapeDtypeStruct)
    assert isinstance(batch[key], np.ndarray)
    assert batch[key].shape == spec.shape and batch[key].dtype == spec.dtype
  assert task.rows == made[kind][0].rows("train")
  if kind == "pairs":
    assert {"types", "cls_positions", "labels", "label_weights"} <= set(batch)


@pytest.mark.parametrize("kind", NAMES)
def test_shards_make_the_global_batch(made, kind):
  task = task_of(made, kind)
  whole = task.batch_at(3, 5)
  for count in (2, 4, 8):
    parts = [task.batch_at(3, 5, (i, count)) for i in range(count)]
    joined = {k: np.concatenate([p[k] for p in parts]) for k in whole}
    assert digest(joined) == digest(whole)
  with pytest.raises(ValueError, match="must divide"):
    task.batch_at(3, 5, (0, 3))


def test_any_step_at_once_and_after_a_restart(made):
  task = task_of(made, "documents")
  in_order = [digest(task.batch_at(1, s)) for s in range(20)]
  again = task_of(made, "documents")
  assert digest(again.batch_at(1, 17)) == in_order[17]
  assert digest(again.batch_at(1, 3)) == in_order[3]
  assert len(set(in_order)) == 20
  others = [digest(task.batch_at(2, s)) for s in range(20)]
  assert not set(in_order) & set(others)
  far = task.batch_at(-1, 10**9)
  assert digest(far) == digest(again.batch_at(-1, 10**9))


def test_an_epoch_holds_every_row_and_the_next_masks_anew(made):
  held, _, _ = made["documents"]
  rows = held.rows("train")
  task = task_of(made, "documents", batch_size=rows)
  first, second = task.batch_at(0, 0), task.batch_at(0, 1)
  clean = held.gather("train", np.arange(rows))["tokens"]
  masked = {}
  for step, batch in enumerate((first, second)):
    indices, _ = order.rows_of_step(0, step, rows, rows)
    assert sorted(indices) == list(range(rows))
    restored = batch["inputs"].copy()
    for r in range(rows):
      known = batch["predict_weights"][r] > 0
      places = batch["predict_positions"][r, known]
      restored[r, places] = batch["predict_ids"][r, known]
    assert np.array_equal(restored, clean[indices])
    masked[step] = batch["inputs"][np.argsort(indices)]
  same = (masked[0] == masked[1]).all(axis=1)
  assert same.mean() < 0.1


@pytest.mark.parametrize("kind", NAMES)
def test_seqio_gives_the_same_examples(made, kind):
  """Row by row, in two epochs, on one shard and on two."""
  from jaxlm.data._pipeline import seqio, seqio_task

  held, corruption, tokenizer = made[kind]
  task = seqio_task(held, corruption, tokenizer, LENGTH)
  assert seqio_task(held, corruption, tokenizer, LENGTH) is task
  rows = held.rows("train")
  found = list(
    task.get_dataset(
      split="train", shuffle=False, seed=0, num_epochs=2
    ).as_numpy_iterator()
  )
  assert len(found) == 2 * rows
  corrupt = task.preprocessors[-1].batch
  numbers = np.arange(rows, dtype=np.int64)
  for epoch in (0, 1):
    batch = corrupt(
      held.gather("train", numbers),
      np.int64(0),
      numbers,
      np.full(rows, epoch, np.int64),
    )
    for row in range(rows):
      example = found[epoch * rows + row]
      assert example.keys() == batch.keys()
      for key, value in example.items():
        assert np.array_equal(value, batch[key][row]), (key, row)
  odd = task.get_dataset(
    split="train",
    shuffle=False,
    seed=0,
    num_epochs=2,
    shard_info=seqio.ShardInfo(1, 2),
  ).as_numpy_iterator()
  for example, want in zip(odd, found[1:rows:2], strict=False):
    assert all(np.array_equal(example[k], want[k]) for k in want)


def test_the_hot_path_gives_what_seqio_gives(made):
  from jaxlm.data._pipeline import seqio_task

  held, corruption, tokenizer = made["documents"]
  task = task_of(made, "documents")
  examples = list(
    seqio_task(held, corruption, tokenizer, LENGTH)
    .get_dataset(split="train", shuffle=False, seed=0)
    .as_numpy_iterator()
  )
  batch = task.batch_at(0, 1)
  indices, epochs = order.rows_of_step(0, 1, 8, task.rows)
  assert not epochs.any()
  for place, row in enumerate(indices):
    for key in batch:
      assert np.array_equal(batch[key][place], examples[row][key])


def test_held_out_rows_come_once_with_fixed_masks(made):
  held, _, tokenizer = made["pairs"]
  rows = held.rows("validation")
  size = 4
  assert rows % size  # the last batch is filled up
  task = task_of(made, "pairs", size, "validation", evaluation=True)
  steps = -(-rows // size)
  batches = [task.batch_at(0, s) for s in range(steps)]
  assert digest(batches[0]) == digest(task.batch_at(9, steps))
  whole = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  clean = held.gather("validation", np.arange(rows))
  assert np.array_equal(whole["segments"][:rows], clean["segments"])
  assert not whole["segments"][rows:].any()
  assert not whole["predict_weights"][rows:].any()
  assert not whole["label_weights"][rows:].any()
  assert (whole["inputs"][rows:] == tokenizer.pad_id).all()
  parts = [task.batch_at(0, steps - 1, (i, 2)) for i in range(2)]
  joined = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
  assert digest(joined) == digest(batches[-1])


def test_too_little_data_is_a_sentence(made):
  with pytest.raises(UserError, match="fewer than one batch of 5000"):
    task_of(made, "documents", batch_size=5000)
  held, _, tokenizer = made["documents"]
  with pytest.raises(UserError, match="cache holds rows of 24 tokens"):
    tasks.make(
      held,
      "train",
      corruptions.build(dict(kind="causal")),
      tokenizer,
      batch_size=2,
      length=LENGTH,
      name="train",
    )


def test_wide_ids_survive(tmp_path):
  tokenizer = fakes.NumberTokenizer(70_000)
  corruption = corruptions.build(dict(kind="none"))
  key = cache.key({}, "t", dict(kind="documents"), 4)
  held = cache.build(
    tmp_path / "wide", key, [("train", "69999 65536")], tokenizer
  )
  task = tasks.make(
    held, "train", corruption, tokenizer, batch_size=1, length=4, name="wide"
  )
  want = [[2, 69999, 65536, 3]]
  assert task.batch_at(0, 0)["inputs"].tolist() == want
  from jaxlm.data._pipeline import seqio_task

  examples = (
    seqio_task(held, corruption, tokenizer, 4)
    .get_dataset(split="train", shuffle=False, seed=0)
    .as_numpy_iterator()
  )
  assert next(examples)["inputs"].tolist() == want[0]


@pytest.mark.slow
def test_a_process_with_a_live_pipeline_ends(made):
  """Python functions inside tf.data hang at exit about half of the time."""
  held, _, _ = made["documents"]
  code = f"""
    from jaxlm.data import cache
    from jaxlm.data.corruption import corruptions
    from jaxlm.data._pipeline import seqio_task
    from tests.data import fakes
    held = cache.open_cache({str(held.folder)!r})
    corruption = corruptions.build(dict(kind="masking", rate=0.3))
    task = seqio_task(held, corruption, fakes.NumberTokenizer(), {LENGTH})
    examples = iter(task.get_dataset(
      split="train", shuffle=True, seed=0, num_epochs=None))
    for _ in range(300):
      next(examples)
    print("left alive")
  """
  ran = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code)],
    capture_output=True,
    timeout=300,
    text=True,
  )
  assert ran.returncode == 0 and "left alive" in ran.stdout, ran.stderr
