"""Realised rates against what was asked for, and by hand."""

import collections

import numpy as np
import pytest

from jaxlm.data import cache, packed, statistics, tasks
from jaxlm.data.corruption import corruptions
from jaxlm.data.prepared import describe
from tests.data import fakes
from tests.data.test_corruption import LENGTH, corrupt, rows_of


def rates_of(pairs, tokenizer, copies=1):
  """Rates of batches beside the text that they were made of."""
  sums = collections.Counter()
  for batch, text in pairs:
    sums.update(statistics.Rates.counted(batch, text, tokenizer))
  return statistics.Rates.shares(sums, copies)


def measured(spec, rows, **more):
  out = corrupt(spec, rows)
  return out, rates_of([(out, rows)], fakes.NumberTokenizer(), **more)


def test_rates_of_masking_are_those_asked_for():
  rows = rows_of(300, LENGTH)
  rows["tokens"][:, 5] = np.where(rows["tokens"][:, 5] < 5, 3, 1)  # unknown
  spec = dict(kind="masking", rate=0.4, predict_rate=0.2)
  out, found = measured(spec, rows)
  special = np.isin(rows["tokens"], [0, 2, 3, 4])
  text = ~special
  assert found.rows == found.sequences == 300 and found.tokens == text.sum()
  assert found.predictions == out["predict_weights"].sum()
  assert found.predicted == pytest.approx(0.2, abs=0.01)
  changed = (out["inputs"] != rows["tokens"]).sum()
  assert found.corrupted == pytest.approx(changed / text.sum())
  assert found.corrupted == pytest.approx(0.9 * 0.4, abs=0.015)
  assert found.masked == pytest.approx(0.8 * 0.4, abs=0.015)
  assert found.kept == pytest.approx(0.1 * 0.2, abs=0.01)
  assert found.unknown == (rows["tokens"] == 1).sum() / text.sum() > 0
  assert found.packing == pytest.approx((rows["segments"] > 0).mean())
  assert found.segments == pytest.approx(rows["segments"].max(axis=1).mean())


def test_what_a_decoder_is_to_say_is_hidden_from_the_encoder():
  text = np.array([[7, 8, 10, 11, 13, 14]])
  batch = dict(
    inputs=np.array([[7, 59, 13, 14, 3, 0]]),
    segments=np.array([[1, 1, 1, 1, 1, 0]]),
    decoder_inputs=np.zeros((1, 5), int),
    weights=np.ones((1, 5)),
  )
  rows = dict(tokens=text, segments=np.ones_like(text))
  found = rates_of([(batch, rows)], fakes.NumberTokenizer())
  assert found.corrupted == pytest.approx(3 / 6)
  assert found.predictions == 5 and found.packing == pytest.approx(5 / 6)


def test_nothing_is_hidden_from_a_causal_model():
  rows = rows_of(8, LENGTH + 1)
  out, found = measured(dict(kind="causal"), rows)
  assert found.corrupted == found.masked == 0
  assert found.predictions == out["weights"].sum()


def test_training_batches_come_with_their_rows(tmp_path):
  rng = np.random.default_rng(0)
  texts = [
    ("train", " ".join(map(str, rng.integers(5, 60, 22)))) for _ in range(12)
  ]
  tokenizer = fakes.NumberTokenizer()
  key = cache.key({}, "t", dict(kind="documents"), 24)
  held = cache.build(tmp_path / "cache", key, texts, tokenizer)
  spec = dict(kind="masking", rate=0.15, predict_rate=0.3, mask=1.0)
  spec |= dict(random=0.0, keep=0.0)
  task = tasks.make(
    held,
    "train",
    corruptions.build(spec),
    tokenizer,
    batch_size=8,
    length=24,
    name="train",
  )
  pairs = list(statistics.training_pairs(task, seed=3, steps=4))
  for batch, rows in pairs:
    assert np.array_equal(batch["segments"], rows["segments"])
    shown = batch["inputs"] != 4
    assert np.array_equal(batch["inputs"][shown], rows["tokens"][shown])
  found = rates_of(pairs, tokenizer, copies=2)
  assert (found.sequences, found.rows) == (16, 32)
  assert found.corrupted == found.masked == found.predicted
  assert 2 * found.predicted == pytest.approx(round(0.3 * 22) / 22)
  told = "\n".join(found.lines())
  assert "2 copies of each: 32 rows" in told
  assert f"{2 * found.predicted:.2%} by all copies" in told


def test_boundaries_are_shown():
  rows = rows_of(1, LENGTH)
  spec = dict(kind="masking", rate=0.3, unit=dict(kind="span"), boundaries=9)
  out = corrupt(spec, rows)
  text = describe(out, fakes.NumberTokenizer())
  told = np.flatnonzero(out["boundary_weights"][0])
  assert len(told) and text.count("(between ") == len(told)
  left, right = out["boundary_positions"][0, told[0]]
  place = out["predict_positions"][0, told[0]]
  line = next(part for part in text.split(", ") if f" {place}: " in f" {part}")
  assert line.endswith(f"(between {left} and {right})")


def test_facts_tell_of_copies(tmp_path):
  """In the run card: rows of text, their copies and rows of batches."""
  (tmp_path / "text.txt").write_text("\n\n".join(["a b c d e f"] * 40))
  data = packed.Packed(
    files=str(tmp_path / "text.txt"),
    validation_share=0.0,
    length=16,
    corruption=dict(kind="masking", rate=0.1, predict_rate=0.3),
  )
  made = data.prepare(
    tokenizer=dict(kind="wordpiece", vocab_size=40),
    workdir=tmp_path / "run",
    batch_size=6,
    seed=0,
    report=lambda line: None,
  )
  copies = made.facts["copies_of_a_row"]
  assert copies == tasks.copies_of(corruptions.build(data.corruption), 16) > 1
  assert made.facts["rows_with_copies"] == copies * made.facts["train"]["rows"]
  assert made.train.rows == made.facts["rows_with_copies"]
