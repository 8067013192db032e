"""Mixtures of sources: rates kept, streams whole, batch = f(seed, step)."""

import collections

import numpy as np
import pytest

from jaxlm import errors
from jaxlm.data import _shares, _stitched, datasets, order

B = 8
NAMES = ("a", "b", "c")


def shares(rates, told=None, batch_size=B):
  return _shares.Shares(batch_size, _shares.stages(NAMES, rates, told or {}))


@pytest.mark.parametrize(
  "rates", [dict(a=1, b=1, c=1), dict(a=0.7, c=0.3), dict(b=1, c=0.01)]
)
def test_every_batch_keeps_the_rates_up_to_a_row(rates):
  part = shares(rates)
  wanted = B * np.array([rates.get(n, 0) for n in NAMES]) / sum(rates.values())
  found = np.stack([part.counts(0, step) for step in range(3000)])
  assert (found.sum(axis=1) == B).all()
  assert (found >= np.floor(wanted - 1e-9) - (wanted % 1 > 0)).all()
  assert (np.abs(found - wanted) < 2).all()
  # The mean is the rate: a count varies by less than 1 row a step.
  error = np.abs(found.mean(axis=0) - wanted)
  assert (
    error <= 4 * np.sqrt(wanted % 1 * (1 - wanted % 1) / 3000) + 1e-9
  ).all()
  assert (found[:, wanted == 0] == 0).all()


def test_batches_are_full_whatever_the_rates():
  """Also where the sum of the rates depends on who adds them up."""
  rng = np.random.default_rng(0)
  for _ in range(200):
    rates = rng.random(17) * 10.0 ** rng.integers(-6, 6)
    borders = _shares._borders(tuple(rates))
    assert borders[-1] == 1.0 and (np.diff(borders) >= 0).all()
  part = _shares.Shares(7, (_shares.Stage(0, (0.1,) * 10 + (0.0,)),))
  assert (_shares._counted(part, 0, 0).sum(axis=1) == 7).all()
  assert not _shares._counted(part, 0, 0)[:, -1].any()


def test_what_was_taken_is_the_sum_of_the_steps_before():
  part = shares(dict(a=0.5, b=0.3, c=0.2))
  last = _shares.BLOCK + 50
  total = np.zeros(3, np.int64)
  for step in range(last):
    if step in (0, 1, 77, _shares.BLOCK - 1, _shares.BLOCK, last - 1):
      np.testing.assert_array_equal(part.before(5, step), total)
    total += part.counts(5, step)
  for cached in (_shares._counted, _shares._total):
    cached.cache_clear()
  np.testing.assert_array_equal(part.before(5, last), total)


def test_stages_change_the_rates_at_their_step():
  part = shares(
    dict(a=1),
    dict(
      late=dict(start=20, rates=dict(c=1)), mid=dict(start=10, rates=dict(b=1))
    ),
  )
  for step, source in ((0, 0), (9, 0), (10, 1), (19, 1), (20, 2), (9999, 2)):
    assert part.counts(3, step)[source] == B
    assert (part.sources(3, step) == source).all()


def test_places_in_a_batch_are_well_mixed():
  part = shares(dict(a=0.5, b=0.5))
  first = np.stack([part.sources(0, step) for step in range(2000)]) == 0
  rate = first.mean(axis=0)
  assert (np.abs(rate - 0.5) < 4 * np.sqrt(0.25 / 2000)).all()


@pytest.mark.parametrize(
  "rates, told, message",
  [
    (dict(d=1), {}, "data.rates names no source 'd'"),
    (dict(a=-1), {}, "data.rates.a is -1"),
    (dict(a=0), {}, "gives no source a rate above 0"),
    (dict(a=1), dict(x=dict(start=0, rates=dict(a=1))), "at least 1"),
    (dict(a=1), dict(x=dict(start=5)), "expected dict\\(start"),
    (
      dict(a=1),
      {n: dict(start=5, rates=dict(a=1)) for n in "xy"},
      "a start of its own",
    ),
  ],
)
def test_mistakes_in_rates_are_told(rates, told, message):
  with pytest.raises(errors.UserError, match=message):
    shares(rates, told)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  """Two sources of unlike words and sizes."""
  folder = tmp_path_factory.mktemp("mixture")
  rng = np.random.default_rng(0)
  for name, size in (("first", 90), ("second", 40)):
    words = [f"{name}{i}" for i in range(20)]
    (folder / f"{name}.txt").write_text(
      "\n\n".join(" ".join(rng.choice(words, 12)) for _ in range(size))
    )
  return folder


def data_of(corpus, **more):
  sources = {
    name: dict(
      kind="packed", files=str(corpus / f"{name}.txt"), validation_share=0.2
    )
    for name in ("first", "second")
  }
  more = dict(length=16, sources=sources) | more
  return datasets.build(dict(kind="mixture", **more))


def prepare(data, workdir, batch_size=B, report=lambda line: None):
  return data.prepare(
    tokenizer=dict(kind="wordpiece", vocab_size=120),
    workdir=workdir,
    batch_size=batch_size,
    seed=0,
    report=report,
  )


CHUNKS = dict(
  arrangement=dict(kind="chunks"),
  corruption=dict(kind="causal"),
  rates=dict(first=0.7, second=0.3),
)


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("work")
  return prepare(data_of(corpus, **CHUNKS), workdir), workdir


def source_of(made, row) -> str:
  text = made.tokenizer.decode(row)
  found = {n for n in ("first", "second") if n[:3] in text}
  assert len(found) == 1, text
  return found.pop()


def test_each_source_goes_on_where_it_stopped(made):
  """Its rows are those of its own stream, whatever the other gives."""
  from jaxlm.data import cache as caches

  made, workdir = made
  seen = collections.defaultdict(list)
  for step in range(30):
    for row in made.train.batch_at(4, step)["inputs"]:
      seen[source_of(made, row)].append(row)
  for name, rows in seen.items():
    held = caches.open_cache(workdir / "sources" / name / "cache")
    stream, _ = order.rows_of_entries(
      _stitched.seed_of(4, name), np.arange(len(rows)), held.rows("train")
    )
    expected = held.gather("train", stream)["tokens"][:, :16]
    # Inside a batch rows are shuffled: the stream is the same in each order.
    assert sorted(map(tuple, rows)) == sorted(map(tuple, expected.tolist()))
  assert 0.65 < len(seen["first"]) / 240 < 0.75


def test_a_batch_is_the_same_on_any_number_of_shards(made):
  made, _ = made
  whole = made.train.batch_at(1, 5)
  parts = [made.train.batch_at(1, 5, shard=(i, 4)) for i in range(4)]
  for key, spec in made.train.batch_spec.items():
    assert whole[key].shape == spec.shape and whole[key].dtype == spec.dtype
    np.testing.assert_array_equal(
      whole[key], np.concatenate([part[key] for part in parts])
    )


def test_a_restart_lands_on_the_same_rows(corpus, made, tmp_path):
  first, _ = made
  again = prepare(data_of(corpus, **CHUNKS), tmp_path)
  for cached in (_shares._counted, _shares._total, order.permutation):
    cached.cache_clear()
  for step in (3, 5000):
    a, b = first.train.batch_at(2, step), again.train.batch_at(2, step)
    for key in a:
      np.testing.assert_array_equal(a[key], b[key])


def test_evaluation_holds_every_row_once_and_spreads_the_sources(made):
  made, _ = made
  task, facts = made.validation, made.facts["sources"]
  counts = {n: facts[n]["validation"]["rows"] for n in facts}
  assert task.rows == sum(counts.values())
  steps = -(-task.rows // B)
  batches = [task.batch_at(0, step) for step in range(steps)]
  rows = np.concatenate([b["inputs"] for b in batches])
  weights = np.concatenate([b["weights"] for b in batches]).sum(axis=1)
  assert (weights[: task.rows] > 0).all() and not weights[task.rows :].any()
  found = [source_of(made, row) for row in rows[: task.rows]]
  assert collections.Counter(found) == counts
  assert set(found[:B]) == {"first", "second"}


def test_shares_are_those_of_a_seqio_mixture(made):
  """seqio draws each row alone; both shares are the rates."""
  from jaxlm.data import cache as caches
  from jaxlm.data._pipeline import seqio_task
  from jaxlm.data._seqio import seqio
  from jaxlm.data.corruption import corruptions

  prepared, workdir = made
  tasks = {
    name: seqio_task(
      caches.open_cache(workdir / "sources" / name / "cache"),
      corruptions.build(dict(kind="causal")),
      prepared.tokenizer,
      16,
    )
    for name in ("first", "second")
  }
  pairs = [(tasks["first"].name, 0.7), (tasks["second"].name, 0.3)]
  name = "jaxlm_test_mixture"
  if name not in seqio.MixtureRegistry.names():
    seqio.MixtureRegistry.add(name, pairs)
  examples = (
    seqio.MixtureRegistry.get(name)
    .get_dataset(sequence_length=None, split="train", shuffle=False, seed=0)
    .take(400)
    .as_numpy_iterator()
  )
  theirs = [source_of(prepared, e["inputs"]) == "first" for e in examples]
  ours = [
    source_of(prepared, row) == "first"
    for step in range(50)
    for row in prepared.train.batch_at(0, step)["inputs"]
  ]
  bound = 4 * np.sqrt(0.7 * 0.3 / 400)
  assert abs(np.mean(theirs) - 0.7) < bound
  assert abs(np.mean(ours) - 0.7) < 0.02


def test_masked_rows_are_mixed_too_and_a_curriculum_is_told(corpus, tmp_path):
  lines = []
  data = data_of(
    corpus,
    rates=dict(first=1.0),
    stages=dict(hard=dict(start=2, rates=dict(second=1.0))),
    corruption=dict(kind="masking", rate=0.3),
  )
  assert data.packs
  made = prepare(data, tmp_path, report=lines.append)
  assert any("from step 2, first 0.0%" in line for line in lines)
  for step, name in ((1, "first"), (2, "second")):
    batch = made.train.batch_at(0, step)
    ids = batch["inputs"].copy()
    row, slot = np.nonzero(batch["predict_weights"])
    places = batch["predict_positions"][row, slot]
    ids[row, places] = batch["predict_ids"][row, slot]
    assert {source_of(made, row) for row in ids} == {name}
  told = made.facts["stages"]
  assert told[1] == {"start": 2, "rates": {"first": 0.0, "second": 1.0}}


def test_what_cannot_be_mixed_is_told(corpus, tmp_path):
  files = str(corpus / "first.txt")
  packed = dict(kind="packed", files=files)
  with pytest.raises(errors.UserError, match="data.sources is empty"):
    data_of(corpus, sources={})
  with pytest.raises(errors.UserError, match="x is of kind 'noted'"):
    data_of(corpus, sources=dict(x=dict(kind="noted", files=files)))
  lanes = packed | dict(order=dict(kind="lanes", steps=2))
  with pytest.raises(errors.UserError, match="x.order is 'lanes'"):
    data_of(corpus, sources=dict(x=lanes))
  copies = dict(kind="masking", rate=0.2, predict_rate=0.4)
  with pytest.raises(errors.UserError, match="leave its copies out"):
    data_of(corpus, sources=dict(x=packed | dict(corruption=copies)))
  with pytest.raises(errors.UserError, match="names no source 'frist'"):
    data_of(corpus, rates=dict(frist=1))
  other = packed | dict(length=20)
  with pytest.raises(errors.UserError, match=r"x makes .*20.*rows of one"):
    prepare(data_of(corpus, sources=dict(x=other, a=packed)), tmp_path)
