"""Vectors of words: fastText's files, and batches that bring them."""

import builtins
import collections
import gzip
import struct

import numpy as np
import pytest

from jaxlm.data import datasets, word_vectors
from jaxlm.data.tokenizers import train
from jaxlm.data.vectors import _ngrams, vectors
from jaxlm.errors import UserError

TEXTS = [
  "the cat saw the dog , the cat ran",
  "a dog saw the cat .",
  "नेपाल राम्रो छ .",
]
NEW, SEEN = ["zebra", "Ünïcode", "नेपाल", "a", "naïveté", "xq"], 1762


def lee(shared, kind):
  path = shared / "vectors" / f"lee-fasttext.{kind}.gz"
  return vectors.build(dict(kind="file", path=str(path))).make(None, None, 0)


def test_the_hash_is_fnv_1a_of_signed_bytes():
  """The values of the FNV authors' test vectors, for bytes below 128."""
  known = {"": 0x811C9DC5, "a": 0xE40C292C, "foobar": 0xBF9CF968}
  assert {text: _ngrams.fnv(text) for text in known} == known
  # fastText's int8_t: of a byte above 127 the upper bits are set, too.
  value = 2166136261
  for byte in "ß".encode():
    value = (
      (value ^ int(np.uint32(np.int8(np.uint8(byte))))) * 16777619
    ) % 2**32
  assert _ngrams.fnv("ß") == value


def test_ngrams_are_those_between_marks():
  assert _ngrams.ngrams("ab", (2, 3)) == ["<a", "<ab", "ab", "ab>", "b>"]
  assert _ngrams.ngrams("a", (1, 1)) == ["a"]  # no sign alone
  assert _ngrams.hashes("where", (3, 6), 0) == []


def test_a_model_gives_the_vectors_of_the_text_file(shared):
  """Two files of one model (gensim's), of which one is rounded."""
  text, model = lee(shared, "vec"), lee(shared, "bin")
  words = [word for word, _ in text._rows()]
  assert len(words) == SEEN
  np.testing.assert_allclose(model.of(words), text.of(words), atol=6e-5)


def test_words_that_no_file_has_are_gensims(shared, tmp_path):
  fasttext = pytest.importorskip("gensim.models.fasttext")
  path = tmp_path / "lee.bin"
  source = shared / "vectors" / "lee-fasttext.bin.gz"
  path.write_bytes(gzip.decompress(source.read_bytes()))
  theirs = fasttext.load_facebook_vectors(str(path))
  found = lee(shared, "bin").of(["the", *NEW])
  expected = np.stack([theirs[word] for word in ["the", *NEW]])
  np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_words_outside_a_text_file_have_the_mean_of_its_ngrams(tmp_path):
  path = tmp_path / "a.vec"
  path.write_text("3 2\nabcd 1.0 0.0 \nabce 0.0 1.0 \nzzzz 4.0 4.0 \n")
  made = vectors.build(dict(kind="file", path=str(path))).make(None, None, 0)
  found = made.of(["abce", "abcx", "??"])
  np.testing.assert_array_equal(found[0], [0.0, 1.0])
  # Of <abcx> these are known: <ab, <abc, abc, each of both words.
  np.testing.assert_allclose(found[1], [0.5, 0.5])
  np.testing.assert_array_equal(found[2], 0.0)
  np.testing.assert_allclose(made.of(["abcd>"])[0][0] > 0.5, True)


def binary(path, magic=(793712314, 12), quantized=False):
  """A model of two words and three buckets, as fastText writes it."""
  settings = struct.pack("<12id", 4, 5, 5, 1, 5, 1, 2, 2, 3, 3, 4, 100, 1e-4)
  words = struct.pack("<3i2q", 2, 2, 0, 9, 0)
  for number, word in enumerate(("the", "छ")):
    words += word.encode() + b"\0" + struct.pack("<qb", 5 - number, 0)
  rows = np.arange(20, dtype="<f4").reshape(5, 4)
  table = struct.pack("<?2q", quantized, 5, 4) + rows.tobytes()
  path.write_bytes(struct.pack("<2i", *magic) + settings + words + table)
  return vectors.build(dict(kind="file", path=str(path))), rows


def test_a_models_words_are_means_of_rows(tmp_path):
  part, rows = binary(tmp_path / "a.bin")
  made = part.make(None, None, 0)
  grams = [2 + _ngrams.fnv(g) % 3 for g in ("<छ>", "<ab", "<ab>", "ab>")]
  found = made.of(["छ", "ab"])
  np.testing.assert_allclose(found[0], rows[[1, grams[0]]].mean(0))
  np.testing.assert_allclose(found[1], rows[grams[1:]].mean(0))


@pytest.mark.parametrize(
  "name, text, words",
  [
    ("a.vec", b"", "holds no vectors"),
    ("b.vec", b"2 2\na 1 2\nb 1 2 3\n", "line 3 of .* has 3 numbers"),
    ("a.bin", b"no model at all", "is no .bin file of fastText"),
    ("a.npy", b"", "of no known format. Known: .vec"),
  ],
)
def test_files_that_cannot_be_read_are_told(tmp_path, name, text, words):
  (tmp_path / name).write_bytes(text)
  part = vectors.build(dict(kind="file", path=str(tmp_path / name)))
  with pytest.raises(UserError, match=words):
    part.make(None, None, 0).of(["a", "q"])
  near = vectors.build(dict(kind="file", path=str(tmp_path / f"x{name}")))
  with pytest.raises(UserError, match=f"Did you mean '{name}'"):
    near.key()


def test_quantized_models_are_refused(tmp_path):
  with pytest.raises(UserError, match="weights are quantized"):
    binary(tmp_path / "a.bin", quantized=True)[0].make(None, None, 0)


def test_gensim_is_asked_for(monkeypatch):
  real = builtins.__import__

  def without(name, *args, **kwargs):
    if name.startswith("gensim"):
      raise ImportError(name)
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, "__import__", without)
  with pytest.raises(UserError, match=r"pip install 'jaxlm\[vectors\]'"):
    vectors.build(dict(kind="fasttext")).make(lambda: TEXTS, None, 0)


def test_fasttext_is_trained_on_the_runs_own_words():
  """The same every time; a word of the text by its row, others by n-grams."""
  pytest.importorskip("gensim")
  tokenizer = train(dict(kind="word", vocab_size=100), TEXTS)
  spec = dict(kind="fasttext", width=8, min_count=1, buckets=50, epochs=1)
  part = vectors.build(spec)
  first, again = (part.make(lambda: TEXTS, tokenizer, 3) for _ in range(2))
  words = ["the", "नेपाल", "elephant"]
  np.testing.assert_array_equal(first.of(words), again.of(words))
  assert {"the", "नेपाल", ","} <= set(first.index)
  assert "elephant" not in first.index and first.of(words)[2].any()
  with pytest.raises(UserError, match="no word occurs so often"):
    vectors.build(spec | dict(min_count=99)).make(lambda: TEXTS, tokenizer, 0)


def test_ids_of_words_fall_in_frequency():
  tokenizer = train(dict(kind="word", vocab_size=9), TEXTS)
  counts = collections.Counter(w for t in TEXTS for w in t.split())
  ranked = sorted(counts, key=lambda w: (-counts[w], w))
  assert (
    tokenizer.pieces
    == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + (ranked[:4])
  )
  assert tokenizer.kind == "wordlevel" and tokenizer.word_starts.all()
  assert tokenizer.encode("cat zebra") == [tokenizer.token_to_id("cat"), 1]
  assert tokenizer.words("don't  stop.") == ["don", "'", "t", "stop", "."]
  with pytest.raises(UserError, match="vocab_size=5 is too small"):
    train(dict(kind="word", vocab_size=5), TEXTS)


class Told:
  """Vectors of few words."""

  def __init__(self, known):
    self.known = known

  def of(self, words):
    return np.array([self.known.get(w, [0.0, 0.0]) for w in words], np.float32)


def test_rows_are_unit_vectors_or_the_unknown_words():
  tokenizer = train(dict(kind="word", vocab_size=8), TEXTS)
  pieces = tokenizer.pieces[5:]
  rows, unknown = word_vectors.unit_rows(
    Told({pieces[0]: [3.0, 4.0], pieces[1]: [0.0, 2.0], "[UNK]": [-1.0, 0.0]}),
    tokenizer,
  )
  np.testing.assert_allclose(rows[5:7], [[0.6, 0.8], [0.0, 1.0]], rtol=1e-6)
  np.testing.assert_array_equal(rows[[1, 2, 7]], [[-1.0, 0.0]] * 3)
  np.testing.assert_array_equal(rows[0], 0.0)
  assert unknown == 5  # [PAD], three other marks and a word
  rows, _ = word_vectors.unit_rows(Told({pieces[0]: [3.0, 4.0]}), tokenizer)
  np.testing.assert_allclose(rows[1:], [[0.6, 0.8]] * 7, rtol=1e-6)
  with pytest.raises(UserError, match="know no word"):
    word_vectors.unit_rows(Told({}), tokenizer)


def data(path, **more):
  spec = dict(kind="word_vectors", files=str(path), length=16)
  spec |= dict(vectors=dict(kind="hashed", width=12), documents="line")
  return datasets.build(spec | dict(validation_share=0.2) | more)


def prepare(made, workdir, told=None, kind="word"):
  return made.prepare(
    tokenizer=dict(kind=kind, vocab_size=60),
    workdir=workdir,
    batch_size=8,
    seed=0,
    report=(told if told is not None else []).append,
  )


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
  folder = tmp_path_factory.mktemp("words")
  random = np.random.default_rng(0)
  words = [f"w{n}" for n in range(40)]
  lines = [" ".join(random.choice(words, 9)) for _ in range(120)]
  (folder / "a.txt").write_text("\n".join(lines))
  return folder, prepare(data(folder / "a.txt"), folder / "run")


def test_batches_bring_the_vectors_of_their_words(ready):
  folder, made = ready
  table = word_vectors.table(folder / "run")
  assert table.shape == (made.tokenizer.vocab_size, 12)
  assert made.facts["vectors"]["width"] == 12
  np.testing.assert_allclose(np.linalg.norm(table[1:], axis=1), 1, rtol=1e-6)
  for task in (made.train, made.validation):
    batch = task.batch_at(0, 1)
    for key, shape in task.batch_spec.items():
      assert batch[key].shape == shape.shape and batch[key].dtype == shape.dtype
    np.testing.assert_array_equal(
      batch["word_vectors"][:, :-1], table[batch["inputs"]]
    )
    real = batch["weights"] > 0
    assert real.any()
    np.testing.assert_array_equal(
      batch["word_vectors"][:, 1:][real], table[batch["targets"]][real]
    )


def test_batches_are_the_same_on_any_number_of_shards(ready):
  _, made = ready
  whole = made.train.batch_at(3, 1)
  parts = [made.train.batch_at(3, 1, shard=(i, 2)) for i in (0, 1)]
  for key, value in whole.items():
    both = np.concatenate([part[key] for part in parts])
    np.testing.assert_array_equal(both, value)


def test_the_table_is_kept_for_the_next_session(ready, monkeypatch):
  folder, made = ready
  monkeypatch.setattr(word_vectors, "unit_rows", None)
  told = []
  again = prepare(data(folder / "a.txt"), folder / "run", told)
  assert any("45 of 12 numbers, 0 of them the unknown" in s for s in told), told
  np.testing.assert_array_equal(
    again.train.batch_at(0, 2)["word_vectors"],
    made.train.batch_at(0, 2)["word_vectors"],
  )


def test_other_settings_make_another_table(ready):
  folder, made = ready
  other = data(folder / "a.txt", vectors=dict(kind="hashed", width=6))
  again = prepare(other, folder / "run")
  assert again.train.batch_spec["word_vectors"].shape == (8, 17, 6)
  prepare(data(folder / "a.txt"), folder / "run")


def test_what_has_no_words_or_no_next_word_is_refused(ready, tmp_path):
  folder, _ = ready
  with pytest.raises(UserError, match="take config.tokenizer=dict"):
    prepare(data(folder / "a.txt"), tmp_path / "a", kind="wordpiece")
  with pytest.raises(UserError, match="take kind='causal'"):
    masked = data(folder / "a.txt", corruption=dict(kind="masking"))
    prepare(masked, tmp_path / "b")
  with pytest.raises(UserError, match="Did you mean 'fasttext'"):
    data("a.txt", vectors=dict(kind="fastext"))
