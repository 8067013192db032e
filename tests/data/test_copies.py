"""More predicted than hidden: copies of a row with disjoint masks.

Wettig et al., arXiv:2202.08005, section 5, as closed forms.
"""

import hashlib

import numpy as np
import pytest

from configs import efficient_mlm, masking_study
from jaxlm.data import cache, order, tasks
from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import corruptions
from jaxlm.errors import UserError
from jaxlm.training import durations
from tests.data import fakes
from tests.data.test_corruption import LENGTH, corrupt, restored, rows_of

HIDING = dict(kind="masking", mask=1.0, random=0.0, keep=0.0)
UNITS = ("uniform", "whole_word", "span", "ngram")


def copies_of(spec, rows, length=LENGTH):
  """The outputs of all copies of the rows, one dict a copy."""
  count = corruptions.build(spec).copies(length)
  batch = len(rows["tokens"])
  number = lambda c: np.full(batch, c, np.int32)
  return [
    corrupt(spec, rows | {"copy": number(c)}, length=length)
    for c in range(count)
  ]


@pytest.mark.parametrize(
  ("length", "rate", "predicted", "copies"),
  [
    (128, 0.4, 0.4, 1),
    (128, 0.4, 0.2, 1),
    (100, 0.2, 0.4, 2),
    (100, 0.1, 0.4, 4),
    (100, 0.05, 0.4, 8),
    (100, 0.15, 0.4, 3),
    (128, 0.05, 0.4, 9),  # 6 tokens hidden, 51 predicted: rounding matters
  ],
)
def test_number_of_copies(length, rate, predicted, copies):
  spec = HIDING | dict(rate=rate, predict_rate=predicted)
  assert corruptions.build(spec).copies(length) == copies


@pytest.mark.parametrize("fill_last", [False, True])
def test_copies_take_the_permutation_in_turn(fill_last):
  """Disjoint sets, k_c of them each, k_p in all; full and short rows."""
  spec = HIDING | dict(rate=0.15, predict_rate=0.4, fill_last=fill_last)
  rows = rows_of(64, LENGTH)
  rows["segments"][::2, 20:] = 0
  rows["tokens"][::2, 20:] = 0
  outs = copies_of(spec, rows)
  part = corruptions.build(spec)
  n = (rows["tokens"] >= 5).sum(axis=1)
  hide, tell = (np.maximum(np.round(r * n), 1) for r in (0.15, 0.4))
  share = np.maximum(hide, np.ceil(tell / len(outs)))
  assert (share - hide).max() <= 1 and part.most(LENGTH)[0] >= share.max()
  hidden = np.stack([out["inputs"] == 4 for out in outs])
  told = np.stack([out["predict_weights"].sum(axis=1) for out in outs])
  for c in range(len(outs)):
    want = np.clip(tell - c * share, 0, share)
    assert np.array_equal(told[c], want)
    whole = np.ceil(tell / share) * share if fill_last else tell
    whole = np.minimum(whole, n)
    assert np.array_equal(
      hidden[c].sum(axis=1), np.clip(whole - c * share, 0, share)
    )
    if not fill_last:
      assert np.array_equal(restored(outs[c]), rows["tokens"])
  assert hidden.sum(axis=0).max() <= 1  # disjoint
  assert np.array_equal(told.sum(axis=0), tell)  # k_p distinct tokens
  # The first copy is the ordinary masking at the lower rate.
  plain = corrupt(HIDING | dict(rate=0.15), rows)
  same = share == hide
  assert same.mean() > 0.5
  assert np.array_equal(outs[0]["inputs"][same], plain["inputs"][same])


@pytest.mark.parametrize("unit", UNITS)
def test_equal_rates_are_the_ordinary_masking_bit_by_bit(unit):
  rows = rows_of(32, LENGTH)
  spec = dict(kind="masking", rate=0.3, unit=dict(kind=unit))
  plain = corrupt(spec, rows)
  both = corrupt(spec | dict(predict_rate=0.3), rows)
  assert plain.keys() == both.keys()
  assert all(np.array_equal(plain[k], both[k]) for k in plain)


@pytest.mark.parametrize("unit", UNITS[1:])
def test_units_are_not_cut_between_copies(unit):
  spec = HIDING | dict(rate=0.15, predict_rate=0.4, unit=dict(kind=unit))
  rows = rows_of(48, LENGTH, pad=False)
  outs = copies_of(spec, rows)
  hidden = np.stack([out["inputs"] == 4 for out in outs])
  assert hidden.sum(axis=0).max() <= 1
  n = (rows["tokens"] >= 5).sum(axis=1)
  tell = np.maximum(np.round(0.4 * n), 1)
  found = hidden.sum(axis=(0, 2))
  assert (found <= tell).all()
  if unit == "span":
    assert np.array_equal(found, tell)
    return
  assert unit == "ngram" or found.mean() > 0.9 * tell.mean()
  first = (rows["tokens"] < 5) | (rows["tokens"] % 3 != 0)
  first |= np.roll(rows["tokens"], 1, 1) < 5
  word = np.cumsum(first, axis=1)
  for copy in hidden:
    for r in range(len(copy)):
      assert not set(word[r][copy[r]]) & set(
        word[r][~copy[r] & (rows["tokens"][r] >= 5)]
      )


def test_copies_draw_replacements_of_their_own():
  spec = dict(kind="masking", rate=0.2, predict_rate=0.4)
  spec |= dict(mask=0.5, random=0.0, keep=0.5)
  rows = rows_of(400, LENGTH, pad=False)
  fates = [
    (out["inputs"][np.arange(400), out["predict_positions"][:, 0]] == 4)
    for out in copies_of(spec, rows)
  ]
  assert abs(np.mean(fates[0] == fates[1]) - 0.5) < 4 * 0.5 / np.sqrt(400)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
  rng = np.random.default_rng(0)
  texts = [
    ("train", " ".join(map(str, rng.integers(5, 60, 22)))) for _ in range(30)
  ]
  key = cache.key({}, "t", dict(kind="documents"), 24, 11)
  folder = tmp_path_factory.mktemp("copies") / "cache"
  return cache.build(folder, key, texts, fakes.NumberTokenizer())


def task_of(held, batch_size=12, evaluation=False, **fields):
  spec = HIDING | dict(rate=0.15, predict_rate=0.4) | fields
  return tasks.make(
    held,
    "train",
    corruptions.build(spec),
    fakes.NumberTokenizer(),
    batch_size=batch_size,
    length=24,
    name="train",
    evaluation=evaluation,
  )


def digest(batch):
  sha = hashlib.sha256()
  for key in sorted(batch):
    sha.update(np.ascontiguousarray(batch[key]).tobytes())
  return sha.hexdigest()


@pytest.mark.parametrize("together", [True, False])
def test_tasks_serve_rows_times_copies(held, together):
  task = task_of(held, keep_copies_together=together)
  rows, copies = held.rows("train"), 3
  assert task.rows == copies * rows
  batches = [task.batch_at(1, s) for s in range(task.rows // 12 + 1)]
  whole = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  clean, hidden = restored(whole)[: task.rows], whole["inputs"] == 4
  found = {}
  for row, mask in zip(clean, hidden):
    found.setdefault(row.tobytes(), []).append(mask)
  assert len(found) == rows
  assert all(len(masks) == copies for masks in found.values())
  assert all(np.sum(masks, 0).max() == 1 for masks in found.values())
  if together:
    assert (clean.reshape(rows, copies, -1) == clean[::copies, None]).all()
  again = task_of(held, keep_copies_together=together)
  assert digest(again.batch_at(1, 5)) == digest(batches[5])  # resumed
  parts = [task.batch_at(1, 5, (i, 4)) for i in range(4)]
  joined = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
  assert digest(joined) == digest(batches[5])
  assert task.batch_spec["predict_ids"].shape == (12, 4)


def test_held_out_rows_have_all_their_copies_once(held):
  task = task_of(held, batch_size=7, evaluation=True)
  steps = -(-task.rows // 7)
  batches = [task.batch_at(0, s) for s in range(steps)]
  whole = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  clean = held.gather("train", np.arange(held.rows("train")))["tokens"]
  assert np.array_equal(restored(whole)[: task.rows], np.repeat(clean, 3, 0))
  n = (clean >= 5).sum(axis=1)
  assert whole["predict_weights"].sum() == np.round(0.4 * n).sum()


def test_seqio_gives_the_same_copies(held):
  from jaxlm.data._pipeline import seqio_task

  corruption = corruptions.build(HIDING | dict(rate=0.15, predict_rate=0.4))
  task = seqio_task(held, corruption, fakes.NumberTokenizer(), 24)
  found = list(
    task.get_dataset(split="train", shuffle=False, seed=0, num_epochs=1)
    .take(9)
    .as_numpy_iterator()
  )
  numbers = np.arange(9) // 3
  rows = held.gather("train", numbers)
  rows["copy"] = np.arange(9, dtype=np.uint16) % 3
  batch = task.preprocessors[-1].batch(
    rows, np.int64(0), numbers.astype(np.int64), tf.zeros(9, tf.int64)
  )
  for row, example in enumerate(found):
    assert all(np.array_equal(example[k], batch[k][row]) for k in batch)


def test_copies_must_divide_the_batch(held):
  with pytest.raises(UserError, match="take 9 or 12, or set"):
    task_of(held, batch_size=10)
  assert task_of(held, batch_size=10, keep_copies_together=False)


def test_order_of_copies():
  indices, epochs, copy = order.copies_of_step(3, 2, 6, 10, copies=3)
  rows, visits = order.rows_of_step(3, 2, 2, 10)
  assert indices.tolist() == np.repeat(rows, 3).tolist()
  assert epochs.tolist() == np.repeat(visits, 3).tolist()
  assert copy.tolist() == [0, 1, 2, 0, 1, 2]
  plain = order.copies_of_step(3, 2, 6, 10, together=False)
  assert [a.tolist() for a in plain[:2]] == [
    a.tolist() for a in order.rows_of_step(3, 2, 6, 10)
  ]


@pytest.mark.parametrize("variant", list(masking_study.SIZES))
def test_the_study_compares_equal_numbers_of_sequences(variant):
  config = masking_study.get_config(variant)
  data = config.data.to_dict()
  corruption = corruptions.build(data["corruption"])
  copies = corruption.copies(data["length"])
  sequences = config.batch_size // copies
  assert config.batch_size % copies == 0
  rows = variant.endswith("_rows")
  assert sequences == (5 if rows else 1) * masking_study.SEQUENCES


def test_the_efficient_recipe_is_told_in_hours():
  config = efficient_mlm.get_config("large")
  found = durations.resolve(
    config.steps, rows=10**6, batch_size=config.batch_size, row_tokens=128
  )
  assert found.seconds == 24 * 3600
  schedule = durations.build_schedule(
    config.schedule.to_dict(), config.optimizer.learning_rate, found
  )
  at = lambda hours: float(schedule(found.schedule_step(5, hours * 3600)))
  assert at(1.44) == pytest.approx(2e-3)  # 6% of the time
  assert at(0.72) == pytest.approx(1e-3) and at(24) == 0.0
  assert at(12.72) == pytest.approx(1e-3, rel=1e-4)
