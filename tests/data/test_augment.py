"""Other wordings: what is left of a sentence, and how evenly."""

import collections

import numpy as np
import pytest
import scipy.stats

from jaxlm.data import _augment, datasets, tokenizers
from jaxlm.errors import UserError

WORDS = [[i, 100 + i] for i in range(10)]  # words of two pieces


def draws(name, words=WORDS, count=2000, **settings):
  random = np.random.default_rng(0)
  return [_augment.KINDS[name](words, random, **settings) for _ in range(count)]


def even(counts, cells):
  assert len(counts) == cells
  assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_words_are_deleted_evenly():
  gone = collections.Counter()
  for left in draws("delete_words", rate=0.3):
    assert len(left) == 7 and left == sorted(left)
    gone.update(i for i in range(10) if WORDS[i] not in left)
  even(gone, 10)
  (one,) = draws("delete_words", WORDS[:1], 1, rate=0.9)
  assert one == WORDS[:1]  # never all


def test_spans_are_deleted():
  places = collections.Counter()
  for left in draws("delete_spans", spans=1, share=0.3):
    assert len(left) == 7
    gone = [i for i in range(10) if WORDS[i] not in left]
    assert gone == list(range(gone[0], gone[0] + 3))
    places[gone[0]] += 1
  even(places, 8)
  assert {len(x) for x in draws("delete_spans", count=9, share=0.2)} == {6}
  assert draws("delete_spans", WORDS[:1], 1)[0] == WORDS[:1]


def test_pairs_of_spans_change_places():
  pairs = collections.Counter()
  for made in draws("reorder", WORDS[:5], pairs=1, share=0.2):
    moved = [i for i in range(5) if made[i] != WORDS[i]]
    i, j = moved
    assert (made[i], made[j]) == (WORDS[j], WORDS[i])
    pairs[i, j] += 1
  even(pairs, 10)
  for made in draws("reorder", count=50, pairs=1, share=0.3):
    assert sorted(made) == WORDS and made != WORDS
    first = next(i for i in range(10) if made[i] != WORDS[i])
    start = WORDS.index(made[first])
    assert made[first : first + 3] == WORDS[start : start + 3]
  assert draws("reorder", WORDS[:1], 1)[0] == WORDS[:1]


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


@pytest.mark.slow
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
  ],
)
def test_mistakes_are_told(spec, words):
  with pytest.raises(UserError, match=words):
    _augment.check(spec)
