"""Spans of documents: the law they are drawn by, and rows made of them."""

import collections

import numpy as np
import pytest
import scipy.stats

from jaxlm.data import _span_draws, datasets, tokenizers
from jaxlm.errors import UserError

LONGEST, SHORTEST, TIMES = 50, 5, 4000
FULL = _span_draws.Document(4 * LONGEST, SHORTEST, LONGEST)


def drawn(draw, *given, document=FULL):
  random = np.random.default_rng(0)
  return [draw(document, *given, random) for _ in range(TIMES)]


def likely(values, shares):
  """Chi-square of values against the shares of all that may come."""
  found = collections.Counter(values)
  assert set(found) <= set(shares)
  seen = np.array([found[key] for key in shares])
  wanted = np.array([*shares.values()]) * len(values)
  rare = wanted < 5  # one cell together
  if rare.any():
    seen, wanted = (np.append(x[~rare], x[rare].sum()) for x in (seen, wanted))
  assert scipy.stats.chisquare(seen, wanted).pvalue > 1e-4


def sizes(a, b, longest=LONGEST):
  """Shares of the lengths of a scaled Beta, rounded down."""
  steps = np.linspace(0, 1, longest - SHORTEST + 1)
  shares = np.diff(scipy.stats.beta(a, b).cdf(steps))
  return dict(zip(range(SHORTEST, longest), shares))


def evenly(spans, first, last):
  """Whether starts are uniform from first to last, of the size each."""
  starts, ends = np.array(spans).T
  low, high = (np.array([f(n) for n in ends - starts]) for f in (first, last))
  assert (low <= starts).all() and (starts <= high).all()
  for extreme in (low, high):
    assert (starts == extreme).any()
  # What is left of a step is filled in at random.
  within = np.random.default_rng(1).random(len(starts))
  shares = (starts - low + within) / (high - low + 1)
  assert scipy.stats.kstest(shares, "uniform").pvalue > 1e-4


def length(span):
  return span[1] - span[0]


def test_anchors_are_long_and_their_cells_far_apart():
  pairs = drawn(_span_draws.anchors, 2)
  likely([length(span) for pair in pairs for span in pair], sizes(4, 2))
  mean = np.mean([length(pair[0]) for pair in pairs])
  spread = np.sqrt(45**2 * 8 / 252 / TIMES)  # of a Beta(4, 2)
  assert abs(mean - (5 + 45 * 2 / 3 - 0.5)) < 4 * spread
  # Of four cells one is taken with its neighbours, and of what is left one.
  cells = {(0, 2): 1, (0, 3): 1, (1, 3): 2, (2, 0): 2, (3, 0): 1, (3, 1): 1}
  shares = {pair: count / 8 for pair, count in cells.items()}
  where = [tuple(start // LONGEST for start, _ in pair) for pair in pairs]
  likely(where, shares)
  for pair in pairs:
    (_, end), (start, _) = sorted(pair)
    assert start - end >= LONGEST
  places = [(a % LONGEST, a % LONGEST + b - a) for ((a, b), _) in pairs]
  evenly(places, lambda n: 0, lambda n: LONGEST - n)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_there_is_room_for_every_anchor(count):
  """Also where a document is as short as may be."""
  least = _span_draws.needed(count, LONGEST)
  for tokens in (least, least + 13, 3 * least):
    document = _span_draws.Document(tokens, SHORTEST, LONGEST)
    random = np.random.default_rng(count)
    for _ in range(200):
      found = sorted(_span_draws.anchors(document, count, random))
      assert len(found) == count and found[-1][1] <= tokens
      for before, behind in zip(found, found[1:]):
        assert behind[0] - before[1] >= LONGEST


def test_positives_are_short_and_near():
  anchor = (70, 110)
  found = drawn(_span_draws.anywhere, anchor)
  likely([length(span) for span in found], sizes(2, 4))
  # From where it ends at the anchor's start to where it starts at its end.
  evenly(found, lambda n: 70 - n, lambda n: 110)
  found = drawn(_span_draws.anywhere, (160, 195))  # of 200 tokens
  evenly(found, lambda n: 160 - n, lambda n: min(195, 200 - n))
  found = drawn(_span_draws.anywhere, (3, 40))
  evenly(found, lambda n: max(3 - n, 0), lambda n: 40)


def test_positives_inside_and_beside():
  anchor = (70, 110)
  found = drawn(_span_draws.inside, anchor)
  likely([length(span) for span in found], sizes(2, 4, longest=40))
  evenly(found, lambda n: 70, lambda n: 110 - n)
  found = drawn(_span_draws.beside, anchor)
  likely([length(span) for span in found], sizes(2, 4))
  sides = [(end == 70, start == 110) for start, end in found]
  likely(sides, {(True, False): 0.5, (False, True): 0.5})
  # There is room on one side alone, or on both to the token.
  assert {s for s, _ in drawn(_span_draws.beside, (0, 40))} == {40}
  assert {e for _, e in drawn(_span_draws.beside, (155, 199))} == {155}
  found = drawn(_span_draws.beside, (15, 60))
  some = [span[0] for span in found if length(span) == 15]
  likely(some, {0: 0.5, 60: 0.5})


# Documents of 60 to 94 words, no word twice, and one that is too short.
SIZES = [*range(60, 95, 2), 59]


@pytest.fixture(scope="module")
def tokenizer():
  words = " ".join(f"w{i}" for i in range(100))
  return tokenizers.train(dict(kind="wordpiece", vocab_size=400), [words] * 9)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
  rng = np.random.default_rng(3)
  words = [[f"w{i}" for i in rng.permutation(100)[:size]] for size in SIZES]
  file = tmp_path_factory.mktemp("spans") / "a.txt"
  file.write_text("\n\n".join(" ".join(w) for w in words), encoding="utf-8")
  return words, file


def prepare(tokenizer, file, batch_size=8, **fields):
  said = []
  spec = dict(kind="spans", files=str(file), shortest=4) | fields
  given = dict(tokenizer=tokenizer, workdir=file.parent / "run", seed=0)
  given |= dict(batch_size=batch_size, report=said.append)
  return datasets.build(spec).prepare(**given), said


def parts(tokenizer, batch, row) -> list[list[str]]:
  """The words of each segment."""
  ids, segments = batch["inputs"][row], batch["segments"][row]
  return [
    tokenizer.decode(ids[segments == n]).split()
    for n in range(1, segments.max() + 1)
  ]


def span(words, part):
  """Where a part stands in the words of its document."""
  start = words.index(part[0])
  assert words[start : start + len(part)] == part
  return start, start + len(part)


def test_rows_are_an_anchor_and_its_positives(tokenizer, texts):
  documents, file = texts
  extra = tokenizer.overhead()
  made, said = prepare(tokenizer, file, length=15 + extra, positives=3)
  assert said[-1] == (
    "Spans: train 18 documents, 36 anchors; 1 of fewer than 60 tokens were "
    "left out."
  )
  task = made.train
  assert (task.rows, task.longest) == (36, 15 + extra)
  assert made.facts["train"]["short_documents"] == 1
  batch = task.batch_at(0, 1)
  for key, value in batch.items():
    spec = task.batch_spec[key]
    assert (value.shape, value.dtype) == (spec.shape, spec.dtype)
  seen = []
  for row in range(8):
    found = parts(tokenizer, batch, row)
    assert len(found) == 4
    text = " ".join(found[0])
    (words,) = (w for w in documents if f" {text} " in f" {' '.join(w)} ")
    anchor, *positives = (span(words, part) for part in found)
    for start, end in positives:
      assert start <= anchor[1] and end >= anchor[0]
    assert all(4 <= length(s) < 15 for s in (anchor, *positives))
    seen.append((documents.index(words), anchor))
    at = batch["cls_positions"][row]
    assert (batch["positions"][row][at] == 0).all()
  for (one, a), (other, b) in zip(seen[::2], seen[1::2]):
    (_, end), (start, _) = sorted((a, b))
    assert one == other and start - end >= 15
  assert (batch["view_weights"] == 1).all()


def test_batches_are_a_function_of_seed_and_step(tokenizer, texts):
  _, file = texts
  fields = dict(length=15 + tokenizer.overhead(), validation_share=0.3)
  made, _ = prepare(tokenizer, file, **fields)
  task, held = made.train, made.validation
  whole = task.batch_at(3, 7)
  halves = [task.batch_at(3, 7, (i, 2)) for i in range(2)]
  for key, value in whole.items():
    both = np.concatenate([half[key] for half in halves])
    np.testing.assert_array_equal(both, value, err_msg=key)
  other = task.batch_at(4, 7)
  assert not np.array_equal(other["inputs"], whole["inputs"])
  assert held.rows % 2 == 0 and held.rows + task.rows == 36
  last = held.batch_at(0, -(-held.rows // 8) - 1)
  again = held.batch_at(9, -(-held.rows // 8) - 1)
  np.testing.assert_array_equal(last["inputs"], again["inputs"])
  assert last["view_weights"][:, 0, 0].sum() == (held.rows - 1) % 8 + 1


@pytest.mark.slow
def test_anchors_alone_are_masked(tokenizer, texts):
  _, file = texts
  masking = dict(kind="masking", rate=0.3, mask=1.0, random=0.0, keep=0.0)
  fields = dict(length=15 + tokenizer.overhead())
  made, _ = prepare(tokenizer, file, masking=masking, **fields)
  plain, _ = prepare(tokenizer, file, **fields)
  batch, whole = made.train.batch_at(0, 2), plain.train.batch_at(0, 2)
  assert set(batch) == set(made.train.batch_spec)
  counts = batch["predict_weights"] > 0
  rows, places = np.nonzero(counts)[0], batch["predict_positions"][counts]
  assert (batch["inputs"][rows, places] == tokenizer.mask_id).all()
  assert (batch["segments"][rows, places] == 1).all()
  tokens = (batch["segments"] == 1).sum(1) - tokenizer.overhead()
  np.testing.assert_array_equal(counts.sum(1), np.round(0.3 * tokens))
  restored = batch["inputs"].copy()
  restored[rows, places] = batch["predict_ids"][counts]
  np.testing.assert_array_equal(restored, whole["inputs"])
  both = made.train.batch_at(0, 2, (1, 2))
  np.testing.assert_array_equal(both["inputs"], batch["inputs"][4:])


@pytest.mark.parametrize(
  "fields, words",
  [
    (dict(where="aside"), "where cannot be 'aside'.*inside"),
    (dict(anchors=0), "data.anchors is 0"),
    (dict(batch_size=3), "batch_size is 3, which data.anchors=2 does not"),
    (dict(length=40), "no document of 152 tokens.*smaller length"),
    (dict(length=5), "data.shortest is 4, but data.length=5 leaves 3"),
    (dict(masking=dict(kind="causal")), "cannot be of the kind 'causal'"),
    (dict(validation_share=1.0), "validation_share is 1.0"),
  ],
)
def test_mistakes_are_told(fields, words, tokenizer, texts):
  with pytest.raises(UserError, match=words):
    prepare(tokenizer, texts[1], **fields)
