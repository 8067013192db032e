"""Other wordings: what is left of a sentence, and how evenly."""

import collections
import functools

import numpy as np
import pytest
import scipy.stats

from jaxlm.data import _augment, _counter, datasets, tokenizers
from jaxlm.data.corruption import _threefry
from jaxlm.errors import UserError


def draws(name, words=10, texts=2000, **settings):
  """Numbers of the words that are left of texts of so many, in order."""
  made = _augment.KINDS[name](made_of(words, texts), random(texts), **settings)
  return [row[:n].tolist() for row, n in zip(*made)]


def made_of(words, texts):
  """Texts of so many words, which leave room in their rows."""
  order = np.tile(np.arange(words + 3), (texts, 1))
  return _augment.Words(order, np.full(texts, words))


def random(texts, stream=0, seed=0):
  keys = _counter.row_keys(seed, np.arange(texts), np.zeros(texts, np.int64))
  return lambda count: _counter.bits(keys, stream, count)


def even(counts, cells):
  assert len(counts) == cells
  assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_numpys_numbers_are_those_of_tensorflow():
  """Whose generator is held against its authors' vectors."""
  seed, rows = -3, np.arange(5, dtype=np.int64)
  ours = _counter.row_keys(seed, rows, 7 * rows)
  theirs = _threefry.row_keys(np.int64(seed), rows, 7 * rows)
  np.testing.assert_array_equal(ours, theirs)
  even, odd = np.split(_threefry.bits(theirs, 9, 12).numpy(), 2, axis=1)
  drawn = _counter.bits(ours, 9, 12)
  np.testing.assert_array_equal(drawn[:, ::2], even)
  np.testing.assert_array_equal(drawn[:, 1::2], odd)
  np.testing.assert_array_equal(_counter.bits(ours, 9, 5), drawn[:, :5])


def test_words_are_deleted_evenly():
  gone = collections.Counter()
  for left in draws("delete_words", rate=0.3):
    assert len(left) == 7 and left == sorted(left)
    gone.update(set(range(10)) - set(left))
  even(gone, 10)
  for words, rate, left in (
    (1, 0.9, 1),
    (5, 0.99, 1),
    (5, 0.5, 3),
    (0, 0.9, 0),
  ):
    found = draws("delete_words", words, 5, rate=rate)
    assert [len(x) for x in found] == [left] * 5  # half to even, never all


def test_spans_are_deleted():
  places = collections.Counter()
  for left in draws("delete_spans", spans=1, share=0.3):
    gone = sorted(set(range(10)) - set(left))
    assert left == sorted(left) and len(left) == 7
    assert gone == list(range(gone[0], gone[0] + 3))
    places[gone[0]] += 1
  even(places, 8)
  assert {len(x) for x in draws("delete_spans", texts=9, share=0.2)} == {6}
  assert draws("delete_spans", 1, 1) == [[0]]
  # Of the last two words the second goes, and then there is one.
  assert {len(x) for x in draws("delete_spans", 3, 9, spans=5)} == {1}


def test_pairs_of_spans_change_places():
  pairs = collections.Counter()
  for made in draws("reorder", 5, pairs=1, share=0.2):
    i, j = (n for n in range(5) if made[n] != n)
    assert (made[i], made[j]) == (j, i)
    pairs[i, j] += 1
  even(pairs, 10)
  places = collections.Counter()
  for made in draws("reorder", pairs=1, share=0.3):
    i = next(n for n in range(10) if made[n] != n)
    j = made[i]
    expected = list(range(10))
    expected[i : i + 3], expected[j : j + 3] = (
      expected[j : j + 3],
      expected[i : i + 3],
    )
    assert j >= i + 3 and made == expected
    places[i, j] += 1
  even(places, 15)
  assert draws("reorder", 1, 1) == [[0]] and draws("reorder", 0, 1) == [[]]
  assert draws("reorder", 2, 1, pairs=2) == [[0, 1]]  # there and back


def test_texts_are_put_together_again():
  """Words whole and in the order drawn, brackets in their places."""
  starts = np.zeros(60, bool)
  starts[[0, 1, *range(10, 60, 10)]] = True  # brackets, and first pieces
  texts = [
    [0, 10, 11, 20, 30, 31, 32, 1],
    [0, 1],
    [0, 45, 46, 50, 1],  # cut inside a word: its rest is one
    [0, 40, 1],
  ]
  words = [[[10, 11], [20], [30, 31, 32]], [], [[45, 46], [50]], [[40]]]
  ids = np.concatenate([*texts, [59]]).astype(np.int32)
  ends = np.cumsum([len(t) for t in texts])
  spans = np.stack([ends - [len(t) for t in texts], ends], axis=1)
  spec = dict(reorder=dict(pairs=3), delete_words=dict(rate=0.4))
  keys = _counter.row_keys(5, np.arange(4), np.zeros(4, np.int64))

  def drawn(texts):
    return lambda stream, count: _counter.bits(
      tuple(key[texts] for key in keys), stream, count
    )

  def run(texts, spec):
    found = _augment.reworded(
      ids, spans[texts], (1, 1), starts, drawn(texts), spec
    )
    return np.split(found[0].tolist(), np.cumsum(found[1])[:-1])

  for made, text in zip(run([0, 1, 2, 3], {}), texts):
    assert made.tolist() == text  # nothing asked for
  order = _augment.Words(np.tile(np.arange(3), (4, 1)), np.array([3, 0, 2, 1]))
  for stream, name in ((0, "delete_words"), (2, "reorder")):
    random = functools.partial(drawn([0, 1, 2, 3]), stream)
    order = _augment.KINDS[name](order, random, **spec[name])
  found = run([0, 1, 2, 3], spec)
  for text, made in enumerate(found):
    kept = order.order[text, : order.count[text]]
    inner = [index for word in kept for index in words[text][word]]
    assert made.tolist() == [0, *inner, 1]
  assert order.count.tolist() == [2, 0, 1, 1]
  for text in range(4):  # alone as among others
    assert run([text], spec)[0].tolist() == found[text].tolist()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """Texts of nine words, some of several pieces."""
  folder = tmp_path_factory.mktemp("augment")
  rng = np.random.default_rng(1)
  lines = [" ".join(rng.permutation([*"abcdefgh", "abab"])) for _ in range(12)]
  (folder / "a.txt").write_text("\n".join(lines), encoding="utf-8")
  spec = dict(
    kind="sentences",
    files=str(folder / "a.txt"),
    length=16,
    validation_share=0.25,
    augment=dict(delete_words=dict(rate=0.2), reorder={}),
    masking=dict(kind="masking", rate=0.3, mask=1.0, random=0.0, keep=0.0),
  )
  return lines, datasets.build(spec).prepare(
    tokenizer=tokenizers.train(
      dict(kind="wordpiece", vocab_size=40), ["a b c d e f g h abab"] * 3
    ),
    workdir=folder / "run",
    batch_size=4,
    seed=0,
    report=lambda line: None,
  )


def test_views_are_reworded_and_the_masked_lm_reads_the_text(prepared):
  lines, data = prepared
  batch, tokenizer = data.train.batch_at(0, 3), data.tokenizer
  assert set(batch) == set(data.train.batch_spec)
  restored = batch["corrupted_inputs"].copy()
  counts = batch["predict_weights"] > 0
  places = (np.nonzero(counts)[0], batch["predict_positions"][counts])
  assert (restored[places] == tokenizer.mask_id).all()
  restored[places] = batch["predict_ids"][counts]
  for row in range(4):
    texts, views = (
      [tokenizer.decode(ids[row][segments[row] == n]) for n in (1, 2)]
      for ids, segments in (
        (restored, batch["corrupted_segments"]),
        (batch["inputs"], batch["segments"]),
      )
    )
    assert texts[0] == texts[1] and texts[0] in lines
    for view in views:
      words = view.split()
      assert len(words) == 7 and set(words) < set(texts[0].split())
    assert views[0] != views[1]
    at = batch["cls_positions"][row]
    assert (batch["inputs"][row][at] == tokenizer.cls_id).all()
    assert (batch["positions"][row][at] == 0).all()
  halves = [data.train.batch_at(0, 3, (i, 2)) for i in range(2)]
  for key, value in batch.items():
    both = np.concatenate([half[key] for half in halves])
    np.testing.assert_array_equal(both, value, err_msg=key)
  again = data.train.batch_at(0, 6)  # the same rows, an epoch later
  assert not np.array_equal(again["inputs"], batch["inputs"])
  held = [data.validation.batch_at(seed, 0)["inputs"] for seed in (0, 7)]
  np.testing.assert_array_equal(*held)


@pytest.mark.parametrize(
  "spec, words",
  [
    (dict(delete=dict()), "no kind 'delete'. Did you mean 'delete_"),
    (dict(reorder=dict(rate=0.1)), "reorder takes no 'rate'.*pairs, share"),
    (dict(delete_words=dict(rate=1.0)), "delete_words.rate is 1.0"),
    (dict(reorder=dict(share="a")), "share is 'a'; a share lies from 0"),
    (dict(reorder=dict(pairs=2.0)), "pairs is 2.0; it is a whole number"),
    (dict(delete_spans=dict(spans=0.5)), "spans is 0.5; it is a whole number"),
  ],
)
def test_mistakes_are_told(spec, words):
  with pytest.raises(UserError, match=words):
    _augment.check(spec)
