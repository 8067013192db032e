"""Rare words: counted, indexed, pointed out, and hidden where they must be."""

import collections

import numpy as np
import pytest

from jaxlm.data import cache as caches
from jaxlm.data import datasets, rare_words
from jaxlm.errors import UserError
from tests.data import fakes

WORDS = ["the", "a", "cat", "dog", "bird", "tree", "river", "house", "walks"]
RARE = {"zebra": 4, "quagga": 3, "okapi": 5, "r2d2": 4, "gnu": 1}
SPANS = 3


def slow_words(tokens, segments, tokenizer):
  """(row, start, end) of every whole word; the slow way."""
  found = []
  for row in range(len(tokens)):
    place = 0
    while place < tokens.shape[1]:
      token, segment = tokens[row, place], segments[row, place]
      start, place = place, place + 1
      if not segment or tokenizer.is_special[token]:
        continue
      while (
        place < tokens.shape[1]
        and segments[row, place] == segment
        and not tokenizer.is_special[tokens[row, place]]
        and not tokenizer.word_starts[tokens[row, place]]
      ):
        place += 1
      goes_on = (
        place < tokens.shape[1]
        and segments[row, place] == segment
        and not tokenizer.is_special[tokens[row, place]]
      )
      if tokenizer.word_starts[token] and goes_on:
        found.append((row, start, place))
  return found


def rows(seed=0, count=120, length=24):
  random = np.random.default_rng(seed)
  tokens = random.integers(0, 20, (count, length))
  cuts = np.sort(random.integers(0, length + 1, (count, 2)), axis=1)
  here = np.arange(length)[None]
  segments = 1 + (here >= cuts[:, :1]) - 2 * (here >= cuts[:, 1:])
  return tokens, np.maximum(segments, 0)


def test_words_are_runs_of_pieces_inside_documents():
  tokenizer = fakes.NumberTokenizer()
  tokens, segments = rows()
  words = rare_words.find(tokens, segments, tokenizer)
  spans = list(zip(words.row, words.start, words.start + words.size))
  assert spans == slow_words(tokens, segments, tokenizer)
  # Equal pieces have equal hashes, others do not.
  texts = [tuple(tokens[row, start:end]) for row, start, end in spans]
  by_text = collections.defaultdict(set)
  for text, key in zip(texts, words.hash):
    by_text[text].add(int(key))
  assert len(texts) > len(by_text) > 50
  assert all(len(keys) == 1 for keys in by_text.values())
  assert len(set().union(*by_text.values())) == len(by_text)


def test_rows_without_words():
  tokenizer = fakes.NumberTokenizer()
  none = np.zeros((2, 5), np.int64)
  assert not len(rare_words.find(none, none, tokenizer).row)


def masked(tokens, segments, places, ids=None):
  """A batch that hides `places` [rows, p]; -1 pads."""
  weights = (places >= 0).astype(np.float32)
  places = np.maximum(places, 0)
  at = np.arange(len(tokens))[:, None]
  inputs = tokens.copy()
  real = weights > 0
  inputs[at.repeat(places.shape[1], 1)[real], places[real]] = 4
  return dict(
    inputs=inputs.astype(np.int32),
    segments=segments,
    predict_positions=places,
    predict_ids=np.where(real, tokens[at, places], 0),
    predict_weights=weights,
  )


def index_of(texts, tokens, segments, tokenizer):
  """The index of words given as tuples of tokens."""
  words = rare_words.find(tokens, segments, tokenizer)
  keys = {
    tuple(tokens[r, s : s + n]): h
    for r, s, n, h in zip(words.row, words.start, words.size, words.hash)
  }
  hashes = np.array([keys[text] for text in texts], np.uint64)
  counts = np.ones(len(texts), np.int64)
  return rare_words.Index([str(t) for t in texts], counts, hashes, 0.0)


ROW = np.array([[2, 7, 9, 12, 8, 7, 9, 12, 10, 7, 9, 12, 8, 11, 3, 0]])
SEGMENTS = np.array([[1] * 15 + [0]])
NEVER = lambda row: pytest.fail("no more occurrences than spans")


def annotated(places, spans=SPANS, draw=NEVER):
  tokenizer = fakes.NumberTokenizer()
  index = index_of([(8,), (7, 9, 12)], ROW, SEGMENTS, tokenizer)
  batch = masked(ROW, SEGMENTS, np.array([places]))
  made = rare_words.annotate(batch, index, tokenizer, spans, draw)
  return made["note_ids"][0].tolist(), made["note_spans"][0].tolist()


def test_occurrences_are_told_by_note_start_and_end():
  ids, spans = annotated([8], spans=5)
  assert ids == [0, 2, 2, 2, 1, 2, 2, 2, 0, 2, 2, 2, 1, 0, 0, 0]
  assert spans == [[2, 1, 4], [1, 4, 5], [2, 5, 8], [2, 9, 12], [1, 12, 13]]


def test_a_word_of_which_a_piece_is_hidden_is_neither_read_nor_noted():
  ids, spans = annotated([2, 4, -1])
  # [MASK] at 2 must not make the word "7", nor end one before it.
  assert ids == [0, 0, 0, 0, 0, 2, 2, 2, 0, 2, 2, 2, 1, 0, 0, 0]
  assert spans == [[2, 5, 8], [2, 9, 12], [1, 12, 13]]


def test_of_more_occurrences_than_spans_a_random_part_is_noted():
  found = set()
  for seed in range(8):
    draw = lambda row, seed=seed: np.random.default_rng(seed + row)
    ids, spans = annotated([8], spans=2, draw=draw)
    assert len(spans) == 2 and spans == sorted(spans, key=lambda s: s[1])
    assert sum(i > 0 for i in ids) == 11  # all are read
    found.add(tuple(s[1] for s in spans))
  assert len(found) > 2


def corpus(path):
  """Documents in which RARE are as frequent as they say."""
  random = np.random.default_rng(0)
  rare = [word for word, count in RARE.items() for _ in range(count)]
  texts = [" ".join(random.choice(WORDS, 12)) for _ in range(120)]
  for number, word in enumerate(random.permutation(rare)):
    texts[5 * number] += f" {word} "
    texts[5 * number] += " ".join(random.choice(WORDS, 4))
  path.write_text("\n\n".join(texts))
  return path


def data(path, **more):
  spec = dict(kind="noted", files=str(path), length=32, validation_share=0.0)
  spec |= dict(min_count=2, max_count=9, spans=4, words=100)
  return datasets.build(spec | more)


def prepare(made, workdir, told=None):
  return made.prepare(
    tokenizer=dict(kind="wordpiece", vocab_size=120),
    workdir=workdir,
    batch_size=8,
    seed=0,
    report=(told if told is not None else []).append,
  )


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
  folder = tmp_path_factory.mktemp("noted")
  path = corpus(folder / "a.txt")
  told = []
  made = prepare(data(path), folder / "run", told)
  return folder, path, made, told


def entries(folder):
  lines = (folder / "run/notes/rare.tsv").read_text().splitlines()[1:]
  return [line.split("\t") for line in lines]


def test_the_table_lists_the_band_without_digits(ready):
  folder, _, made, told = ready
  found = {word: int(count) for word, count, _, _ in entries(folder)}
  assert found == {"okapi": 5, "zebra": 4, "quagga": 3}
  assert [line[2] for line in entries(folder)] == ["1", "2", "3"]
  assert made.facts["notes"] == 3
  assert 0 < made.facts["rows_with_notes"] < 1
  assert any("3 words that occur 2 to 9 times" in line for line in told)


def test_spans_decode_to_their_words_and_recount_the_table(ready):
  folder, _, made, _ = ready
  cache = caches.open_cache(folder / "run/cache")
  held = cache.gather("train", np.arange(cache.rows("train")))
  tokens = held["tokens"].astype(np.int32)
  batch = masked(tokens, held["segments"], np.full((len(tokens), 1), -1))
  index = rare_words.Index.read(
    (folder / "run/notes/rare.tsv").read_text(), 0.0
  )
  more = rare_words.annotate(batch, index, made.tokenizer, 16, NEVER)
  counts = collections.Counter()
  for row, spans in enumerate(more["note_spans"]):
    for note, start, end in spans[spans[:, 0] > 0]:
      word = made.tokenizer.decode(tokens[row, start:end].tolist())
      assert word == index.words[note - 1]
      assert (more["note_ids"][row, start:end] == note).all()
      counts[word] += 1
  assert counts == {"okapi": 5, "zebra": 4, "quagga": 3}


def test_batches_are_the_same_on_any_number_of_shards(ready):
  _, _, made, _ = ready
  whole = made.train.batch_at(3, 1)
  for key, shape in made.train.batch_spec.items():
    assert whole[key].shape == shape.shape and whole[key].dtype == shape.dtype
  parts = [made.train.batch_at(3, 1, shard=(i, 2)) for i in (0, 1)]
  for key, value in whole.items():
    both = np.concatenate([part[key] for part in parts])
    np.testing.assert_array_equal(both, value)


def test_no_hidden_piece_has_a_note(ready):
  _, _, made, _ = ready
  noted = 0
  for step in range(6):
    batch = made.train.batch_at(0, step)
    at = np.arange(8)[:, None]
    hidden = batch["note_ids"][at, batch["predict_positions"]]
    assert not (hidden * batch["predict_weights"]).any()
    noted += (batch["note_spans"][..., 0] > 0).sum()
  assert noted > 0


def test_the_count_is_kept_for_the_next_session(ready, monkeypatch):
  folder, path, made, _ = ready
  monkeypatch.setattr(rare_words, "build", None)
  again = prepare(data(path), folder / "run")
  np.testing.assert_array_equal(
    again.train.batch_at(0, 2)["note_ids"],
    made.train.batch_at(0, 2)["note_ids"],
  )


@pytest.mark.parametrize(
  "changes, told",
  [
    (dict(min_count=50, max_count=60), "No word occurs 50 to 60 times"),
    (dict(corruption=dict(kind="none")), "beside masked tokens"),
  ],
)
def test_data_without_notes_are_told(ready, changes, told):
  folder, path, _, _ = ready
  with pytest.raises(UserError, match=told):
    prepare(data(path, **changes), folder / "run")


@pytest.mark.parametrize(
  "changes, told",
  [
    (dict(min_count=0), "min_count is 0"),
    (dict(min_count=7, max_count=6), "above data.max_count"),
  ],
)
def test_wrong_bands_are_told(changes, told):
  with pytest.raises(UserError, match=told):
    data("a.txt", **changes)
