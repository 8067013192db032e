"""PMI's vocabulary by brute force, and its units by hand."""

import itertools
import math

import numpy as np
import pytest

from jaxlm.__main__ import main
from jaxlm.data import _ngrams, _words, pmi, tokenizers
from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _pmi, _pmi_table, _threefry, corruptions
from jaxlm.errors import UserError
from tests.data import fakes
from tests.data.test_corruption import LENGTH, corrupt, rows_of


def corpus(lines=400, seed=0):
  """Random words, with planted runs "n0 n1" and "a b c"."""
  rng = np.random.default_rng(seed)
  for _ in range(lines):
    words = [f"w{i}" for i in rng.integers(0, 12, 8)]
    words[2:2] = ["n0", "n1"] if rng.random() < 0.5 else ["a", "b", "c"]
    yield " ".join(words[:6]) + ", " + " ".join(words[6:])


def brute_force(texts, longest=5):
  """Counts of all runs, in plain Python."""
  counts = [{} for _ in range(longest)]
  for text in texts:
    for part in text.split(", "):
      words = tuple(part.split())
      for n in range(1, longest + 1):
        for i in range(len(words) - n + 1):
          run = words[i : i + n]
          counts[n - 1][run] = counts[n - 1].get(run, 0) + 1
  return counts


def segmentations(run):
  """All ways to cut a run in at least two."""
  for cuts in itertools.product([0, 1], repeat=len(run) - 1):
    places = [0, *[i + 1 for i, cut in enumerate(cuts) if cut], len(run)]
    if len(places) > 2:
      yield [run[i:j] for i, j in itertools.pairwise(places)]


def test_words_in_any_script():
  assert _words.words("The Ice-cream, n't 2nd") == (
    ["the", "ice", "-", "cream", ",", "n", "'", "t", "2nd"]
  )
  assert _words.words("नेपाली भाषा।") == ["नेपाली", "भाषा", "।"]
  assert [_words.is_word(w) for w in ("the", "-", "।", "é")] == [1, 0, 0, 1]


@pytest.mark.parametrize("shard", [1 << 21, 100])
def test_counts_are_those_of_brute_force(shard):
  texts = list(corpus())
  counts = _ngrams.Counts(texts, shard=shard)
  want = brute_force(texts)
  words = list(counts.words)
  assert counts.totals.tolist() == [sum(c.values()) for c in want]
  for n, held in enumerate(counts.runs, 2):
    for key, count in held.items():
      run = tuple(words[i] for i in np.frombuffer(key, np.int32))
      whole = want[n - 1][run]
      assert count == whole if shard > 100 else count <= whole
    if shard > 100:
      assert len(held) == sum(count > 1 for count in want[n - 1].values())
  small = _ngrams.Counts(texts, entries=300)
  assert small.floor > 2 and sum(map(len, small.runs)) <= 300


def test_scores_are_the_least_over_all_segmentations():
  texts = list(corpus())
  want = brute_force(texts)
  share = lambda run: want[len(run) - 1][run] / sum(want[len(run) - 1].values())
  made = pmi.build(texts, size=64, min_count=3)
  assert len(made.runs) >= 32
  for run in made.runs:
    words = tuple(run.text.split())
    least = min(
      math.log(share(words)) - sum(math.log(share(s)) for s in parts)
      for parts in segmentations(words)
    )
    assert run.pmi == pytest.approx(least, abs=1e-9)
    assert run.count == want[len(words) - 1][words]
  assert {len(list(segmentations("x" * n))) for n in range(2, 6)} == (
    {1, 3, 7, 15}
  )
  lengths = [len(run.text.split()) for run in made.runs]
  assert [lengths.count(n) for n in (2, 3)] == [32, 16]  # 50 and 25%
  assert {"n0 n1", "a b", "b c"} <= {run.text for run in made.runs[:3]}
  assert "a b c" in [run.text for run in made.runs]


def test_a_pair_is_scored_as_ever():
  """Collocation tools' PMI, in nats."""
  share = {("a",): 0.1, ("b",): 0.2, ("a", "b"): 0.05}.__getitem__
  assert pmi.score(("a", "b"), share) == pytest.approx(math.log(2.5))


def test_what_a_part_explains_scores_nothing():
  """a b always together, c independent: PMI_3(a b c) is about 0."""
  share = {
    ("a",): 0.1,
    ("b",): 0.1,
    ("c",): 0.2,
    ("a", "b"): 0.1,
    ("b", "c"): 0.02,
    ("a", "b", "c"): 0.02,
  }.__getitem__
  assert pmi.score(tuple("abc"), share) == pytest.approx(0, abs=1e-12)


def test_the_size_covers_what_is_asked():
  texts = list(corpus())
  made = pmi.build(texts, coverage=0.3, min_count=3)
  runs = {tuple(run.text.split()) for run in made.runs}
  covered = total = 0
  for text in texts:
    for part in text.split(", "):
      words = part.split()
      inside = np.zeros(len(words), bool)
      for n in range(2, 6):
        for i in range(len(words) - n + 1):
          if tuple(words[i : i + n]) in runs:
            inside[i : i + n] = True
      covered, total = covered + inside.sum(), total + len(words)
  assert covered / total == pytest.approx(made.facts["coverage"], abs=1e-4)
  assert 0.3 <= covered / total < 0.4


def test_the_command_writes_what_is_read(tmp_path, capsys):
  (tmp_path / "text.txt").write_text("\n\n".join(corpus()), encoding="utf-8")
  out = tmp_path / "pmi.tsv"
  flags = [f"--files={tmp_path / 'text.txt'}", f"--out={out}", "--size=40"]
  assert main(["pmi", *flags]) == 0
  assert "words, which cover" in capsys.readouterr().out
  runs = pmi.read(out)
  assert runs[0].text in ("a b", "b c", "n0 n1")
  out.write_text(out.read_text().replace(runs[0].text, "x y"))
  with pytest.raises(UserError, match="is damaged"):
    pmi.read(out)
  assert main(["pmi", *flags, "--min_count=1"]) == 2
  assert "a count at least 2" in capsys.readouterr().err


def vocabulary(path, *texts):
  """A file that lists these runs."""
  runs = [pmi.Run(text, 20, 1.0) for text in texts]
  pmi.write(pmi.Vocabulary(runs, {}), path)
  return dict(kind="pmi", vocabulary=str(path))


def units(path, text, batch=1):
  """Units of a text as lists of its words, for several draws."""
  tokenizer = fakes.NumberTokenizer()
  ids = tokenizer.encode_batch([text])[0]
  tokens = tf.constant([ids] * batch)
  keys = _threefry.row_keys(
    tf.constant(0, tf.int64),
    tf.range(batch, dtype=tf.int64),
    tf.zeros(batch, tf.int64),
  )
  ones = tf.ones_like(tokens)
  starts = _pmi.bind(path, tokenizer, 6)(tokens, ones, ones > 0, keys)
  out = []
  for row in starts.numpy():
    cuts = np.flatnonzero(row)
    assert cuts[0] == 0
    out.append([list(part) for part in np.split(np.array(ids), cuts[1:])])
  return out


def test_a_run_inside_another_gives_way(tmp_path):
  """{a b c, b c, c d} on a b c d: abc and cd overlap, bc is never a unit."""
  a, b, c, d = 7, 8, 10, 11  # 8 and 11 start words too
  path = vocabulary(tmp_path / "v", "7 8 10", "8 10", "10 11")["vocabulary"]
  found = units(path, "7 8 10 11", batch=400)
  left = sum(row == [[a, b, c], [d]] for row in found)
  right = sum(row == [[a], [b], [c, d]] for row in found)
  assert left + right == 400 and abs(left - 200) < 4 * 10
  path = vocabulary(tmp_path / "w", "7 8 10", "8 10")["vocabulary"]
  assert units(path, "7 8 10 11") == [[[a, b, c], [d]]]


def test_of_two_that_overlap_each_is_as_likely(tmp_path):
  path = vocabulary(tmp_path / "v", "7 8", "8 10")["vocabulary"]
  found = units(path, "7 8 10", batch=400)
  first = sum(row == [[7, 8], [10]] for row in found)
  second = sum(row == [[7], [8, 10]] for row in found)
  assert first + second == 400 and abs(first - 200) < 4 * 10


def test_words_of_several_tokens(tmp_path):
  """Every third id goes on a word: 7 9 is one word, and so is 8 12 15."""
  path = vocabulary(tmp_path / "v", "7 9 8 12 15")["vocabulary"]
  assert units(path, "7 9 8 12 15 7 9 8 12") == [
    [[7, 9, 8, 12, 15], [7, 9], [8, 12]]
  ]


def test_overlaps_are_settled_as_one_at_a_time():
  rng = np.random.default_rng(0)
  sizes = np.where(
    rng.random((200, 30)) < 0.5, rng.integers(2, 6, (200, 30)), 0
  )
  sizes = np.where(np.arange(30) + sizes <= 30, sizes, 0)
  ranks = rng.integers(0, 2**31 - 1, (200, 30))
  found = _pmi.settled(tf.constant(sizes), tf.constant(ranks), 5).numpy()
  for row in range(200):
    inside, taken = np.zeros(30, bool), np.zeros(30, bool)
    for k in np.argsort(-ranks[row]):
      run = slice(k, k + sizes[row, k])
      if sizes[row, k] and not taken[run].any():
        taken[run] = True
        inside[k + 1 : k + sizes[row, k]] = True
    assert np.array_equal(found[row], inside)


def test_runs_are_hidden_whole_and_share_their_fate(tmp_path):
  runs = ("7 8", "10 11 13")
  unit = vocabulary(tmp_path / "v", *runs)
  rows = rows_of(200, LENGTH)
  rng = np.random.default_rng(1)
  for r in range(200):  # plant them inside documents
    inner = np.flatnonzero(
      (rows["tokens"][r, :-4] >= 5) & (rows["tokens"][r, 2:-2] >= 5)
    )
    at = rng.choice(inner)
    rows["tokens"][r, at : at + 2] = 7, 8
  spec = dict(kind="masking", rate=0.4, mask=0.5, random=0.0, keep=0.5)
  out = corrupt(spec | dict(unit=unit), rows)
  fates = []
  for r in range(200):
    places = out["predict_positions"][r][out["predict_weights"][r] > 0]
    for i in np.flatnonzero(rows["tokens"][r] == 7):
      if i + 1 < LENGTH and rows["tokens"][r, i + 1] == 8:
        after = rows["tokens"][r, i + 2] if i + 2 < LENGTH else 0
        if after % 3 == 0 and after >= 5:
          continue  # the run's last word goes on
        assert (i in places) == (i + 1 in places)
        if i in places:
          masked = out["inputs"][r, i : i + 2] == 4
          assert masked.all() or not masked.any()
          fates.append(masked.all())
  assert len(fates) > 50
  assert abs(np.mean(fates) - 0.5) < 4 * 0.5 / np.sqrt(len(fates))


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe"])
def test_runs_are_found_in_text_of_any_case(kind, tmp_path):
  text = ["Ice cream (new york, NEW YORK.) in New York; ice creams and a b c"]
  spec = dict(kind=kind, vocab_size=330, lowercase=False)
  if kind == "byte_bpe":
    del spec["lowercase"]
  tokenizer = tokenizers.train(spec, text * 30, 0)
  path = vocabulary(tmp_path / "v", "ice cream", "new york")["vocabulary"]
  ids = tokenizer.encode(text[0])
  tokens = tf.constant([ids])
  ones = tf.ones_like(tokens)
  keys = _threefry.row_keys(
    tf.constant(0, tf.int64), tf.zeros(1, tf.int64), tf.zeros(1, tf.int64)
  )
  starts = _pmi.bind(path, tokenizer, 6)(tokens, ones, ones > 0, keys)
  cuts = np.flatnonzero(starts.numpy()[0])
  found = [
    tokenizer.decode(part).strip() for part in np.split(np.array(ids), cuts[1:])
  ]
  runs = [text for text in found if " " in text]
  assert runs == ["Ice cream", "new york", "NEW YORK", "New York"]


def test_mistakes_are_told(tmp_path):
  with pytest.raises(UserError, match="needs its vocabulary"):
    corruptions.build(dict(kind="masking", unit=dict(kind="pmi")))
  unit = dict(kind="pmi", vocabulary=str(tmp_path / "pni.tsv"))
  made = corruptions.build(dict(kind="masking", unit=unit))
  vocabulary(tmp_path / "pmi.tsv", "7 8", "x y")
  with pytest.raises(UserError, match="Did you mean 'pmi.tsv'"):
    made.files()
  (tmp_path / "pni.tsv").write_text("a b\t1\n")
  with pytest.raises(UserError, match="did not write"):
    made.bind(fakes.NumberTokenizer(), 8)


def test_another_language_is_told(tmp_path):
  tokenizer = tokenizers.train(
    dict(kind="wordpiece", vocab_size=60), ["abc abd acd"] * 9, 0
  )
  path = vocabulary(tmp_path / "v", "नेपाली भाषा", "abc abd", "भाषा हो")
  with pytest.raises(UserError, match="spells only 1 of its 3 runs"):
    _pmi_table.read(path["vocabulary"], tokenizer)
