import csv
import gzip
import json

import numpy as np
import pytest

from jaxlm.data import _labelled_arrays, datasets, tokenizers
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.errors import UserError
from tests.data import real

TSV = (
  "sentence\tlabel\n"
  'a "great film\t1\n'
  "dull and long\t0\n"
  "a very great and very long film\t1\n"
  "\t0\n"
  "film\t0\n"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
  spec = {"kind": "wordpiece", "vocab_size": 120}
  return tokenizers.train(spec, [TSV, "The dog barks in Nairobi ."] * 9)


def _write(path, text):
  if path.suffix == ".gz":
    path.write_bytes(gzip.compress(text.encode()))
  else:
    path.write_text(text, encoding="utf-8", newline="")
  return str(path)


def _prepare(tokenizer, folder, batch_size=2, seed=0, **fields):
  said = []
  spec = {"kind": "labelled", "length": 16, "validation_share": 0.0, **fields}
  prepared = datasets.build(spec).prepare(
    tokenizer=tokenizer,
    workdir=folder / "run",
    batch_size=batch_size,
    seed=seed,
    report=said.append,
  )
  return prepared, said


def _all_rows(task, epochs=1):
  """Every row of weight, in the order given: text ids and label."""
  size = task.batch_spec["inputs"].shape[0]
  rows = []
  for step in range(-(-task.rows * epochs // size)):
    batch = task.batch_at(0, step)
    for i in np.flatnonzero(batch["label_weights"][:, 0]):
      ids = batch["inputs"][i][batch["segments"][i] > 0]
      rows.append((tuple(ids.tolist()), batch["labels"][i, 0].item()))
  return rows


def test_tsv_rows_become_batches(tokenizer, tmp_path):
  files = _write(tmp_path / "train.tsv.gz", TSV)
  prepared, said = _prepare(tokenizer, tmp_path, files=files)
  assert prepared.facts["classes"] == ["0", "1"]
  assert prepared.facts["labels"] == {"0": 3, "1": 2}
  assert (prepared.train.rows, prepared.facts["blank_rows"]) == (4, 1)
  assert "4 training rows" in said[0] and "1 blank rows" in said[0]
  assert prepared.validation is None
  batch = prepared.train.batch_at(0, 0)
  for key, shape in prepared.train.batch_spec.items():
    assert batch[key].shape == shape.shape, key
    assert batch[key].dtype == shape.dtype, key
  texts = {
    tokenizer.decode(ids): label for ids, label in _all_rows(prepared.train)
  }
  assert texts == {
    'a " great film': 1,  # a quote is a character in TSV
    "dull and long": 0,
    "a very great and very long film": 1,
    "film": 0,
  }


def test_a_batch_holds_the_contract(tokenizer, tmp_path):
  files = _write(tmp_path / "a.tsv", TSV)
  prepared, _ = _prepare(tokenizer, tmp_path, files=files, length=8)
  assert prepared.facts["cut_rows"] >= 1
  for step in range(5):
    batch = prepared.train.batch_at(0, step)
    real = batch["segments"] > 0
    assert (batch["inputs"][~real] == tokenizer.pad_id).all()
    for row in range(2):
      size = real[row].sum()
      assert real[row, :size].all()
      expected = np.arange(8) * (np.arange(8) < size)
      np.testing.assert_array_equal(batch["positions"][row], expected)
      ids = batch["inputs"][row, :size]
      assert ids[0] == tokenizer.cls_id and ids[-1] == tokenizer.sep_id
    assert (batch["cls_positions"] == 0).all()
    assert (batch["label_weights"] == 1).all()
    assert set(batch) == set(prepared.train.batch_spec)


def test_training_visits_every_row_once_an_epoch(tokenizer, tmp_path):
  files = _write(tmp_path / "a.tsv", TSV)
  task = _prepare(tokenizer, tmp_path, files=files)[0].train
  rows = _all_rows(task, epochs=3)
  epochs = [sorted(rows[i : i + 4]) for i in (0, 4, 8)]
  assert epochs[0] == epochs[1] == epochs[2] and len(set(epochs[0])) == 4
  again = _prepare(tokenizer, tmp_path, files=files)[0].train
  for step in (5, 0, 3):
    for shards in (1, 2):
      parts = [again.batch_at(7, step, (i, shards)) for i in range(shards)]
      whole = task.batch_at(7, step)
      for key, value in whole.items():
        joined = np.concatenate([part[key] for part in parts])
        np.testing.assert_array_equal(joined, value)


def test_validation_counts_every_row_once(tokenizer, tmp_path):
  files = _write(tmp_path / "a.tsv", TSV)
  prepared, _ = _prepare(
    tokenizer, tmp_path, batch_size=3, files=files, validation_files=files
  )
  task = prepared.validation
  assert task.rows == 4
  weights = [task.batch_at(0, s)["label_weights"][:, 0] for s in range(3)]
  np.testing.assert_array_equal(weights, [[1, 1, 1], [1, 0, 0], [1, 1, 1]])
  assert [label for _, label in _all_rows(task)] == [1, 0, 1, 0]
  assert (task.batch_at(0, 1)["segments"].sum(axis=1) > 0).all()
  assert prepared.facts["validation_rows"] == 4


def test_a_share_is_held_out_by_seed(tokenizer, tmp_path):
  lines = [f"{w} film\t{i % 2}" for i, w in enumerate("abcdefghij" * 2)]
  text = "\n".join(["sentence\tlabel", *lines])
  files = _write(tmp_path / "a.tsv", text)

  def split(seed):
    prepared, _ = _prepare(
      tokenizer, tmp_path, 5, seed, files=files, validation_share=0.25
    )
    return _all_rows(prepared.train), _all_rows(prepared.validation)

  train, held = split(0)
  assert (len(train), len(held)) == (15, 5)
  both = sorted(train + held)
  whole = _prepare(tokenizer, tmp_path, files=files)[0].train
  assert both == sorted(_all_rows(whole))
  assert split(0)[1] == held != split(1)[1]


def test_pairs_have_types_and_are_cut_from_the_longer(tokenizer, tmp_path):
  rows = [("id", "label", "a", "b"), ("1", "yes", "long " * 6, "film")]
  text = "\n".join(map("\t".join, [*rows, ("2", "no", "a", "b")]))
  files = _write(tmp_path / "a.tsv", text)
  prepared, _ = _prepare(
    tokenizer, tmp_path, files=files, text="a", pair="b", length=8
  )
  assert prepared.facts["classes"] == ["no", "yes"]
  assert prepared.facts["cut_rows"] == 1
  rows = {}
  for step in range(2):
    batch = prepared.train.batch_at(0, step)
    for i in range(2):
      rows[batch["labels"][i, 0]] = (batch["inputs"][i], batch["types"][i])
  ids, types = rows[1]
  text = tokenizer.decode(ids, specials=True)
  assert text == "[CLS] long long long long [SEP] film [SEP]"
  np.testing.assert_array_equal(types, [0, 0, 0, 0, 0, 0, 1, 1])
  np.testing.assert_array_equal(rows[0][1], [0, 0, 0, 1, 1, 0, 0, 0])


def test_longest_first_equals_taking_one_by_one():
  for a in range(12):
    for b in range(12):
      for room in range(9):
        left, right = a, b
        while left + right > room:
          if left > right:
            left -= 1
          else:
            right -= 1
        found = _labelled_arrays.longest_first(a, b, room)
        assert found == (left, right), (a, b, room)


def test_columns_by_number_without_a_header(tokenizer, tmp_path):
  files = _write(
    tmp_path / "a.tsv", "gj04\t1\t\tgreat film\ngj04\t0\t*\tdull\n"
  )
  for text, label in ((3, 1), ("3", "1"), (-1, 1)):
    prepared, _ = _prepare(
      tokenizer,
      tmp_path,
      files=files,
      header=False,
      text=text,
      label=label,
    )
    found = {tokenizer.decode(i): n for i, n in _all_rows(prepared.train)}
    assert found == {"great film": 1, "dull": 0}
  with pytest.raises(
    UserError, match="data.text='sentence'.*4 columns and no h"
  ):
    _prepare(tokenizer, tmp_path, files=files, header=False, label=1)
  with pytest.raises(UserError, match="data.label=4.*numbers from 0 to 3"):
    _prepare(tokenizer, tmp_path, files=files, header=False, text=3, label=4)


def test_csv_is_quoted(tokenizer, tmp_path):
  path = tmp_path / "a.csv"
  with open(path, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerows([["label", "sentence"], ["b", 'a, "film"'], ["a", "x\ny"]])
  prepared, _ = _prepare(tokenizer, tmp_path, files=str(path))
  found = {tokenizer.decode(i): n for i, n in _all_rows(prepared.train)}
  assert set(found.values()) == {0, 1}
  assert any("film" in text for text in found)
  _write(path, 'label,sentence\na,"open\nb,c\n')
  with pytest.raises(UserError, match=r"a\.csv', line 2: the row is no CSV"):
    _prepare(tokenizer, tmp_path, files=str(path))
  semicolons = _write(tmp_path / "b.data", "label;sentence\na;film\nb;dull\n")
  assert (
    _prepare(tokenizer, tmp_path, files=semicolons, delimiter=";")[0].train.rows
    == 2
  )
  with pytest.raises(UserError, match=r"b\.data.*data.delimiter"):
    _prepare(tokenizer, tmp_path, files=semicolons)


def test_jsonl_rows_and_class_order(tokenizer, tmp_path):
  rows = [{"sentence": "film", "label": n} for n in (10, 9, 2)]
  files = _write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
  assert _prepare(tokenizer, tmp_path, files=files)[0].facts["classes"] == [
    "2",
    "9",
    "10",
  ]
  given, _ = _prepare(
    tokenizer, tmp_path, 3, files=files, classes=(9, "10", "2")
  )
  assert given.facts["classes"] == ["9", "10", "2"]
  assert sorted(label for _, label in _all_rows(given.train)) == [0, 1, 2]
  _write(tmp_path / "a.jsonl", '{"sentence": "a", "lable": 1}\n')
  with pytest.raises(UserError, match="line 1 has no field 'label'.*'lable'"):
    _prepare(tokenizer, tmp_path, files=files)
  _write(tmp_path / "a.jsonl", '{"sentence": null, "label": 1}\n')
  with pytest.raises(UserError, match="'sentence' should be a string"):
    _prepare(tokenizer, tmp_path, files=files)


def test_regression_reads_numbers(tokenizer, tmp_path):
  files = _write(tmp_path / "a.tsv", "sentence\tlabel\na\t2.5\nb\t-1e-1\n")
  prepared, _ = _prepare(tokenizer, tmp_path, files=files, task="regression")
  assert prepared.train.batch_spec["labels"].dtype == np.float32
  labels = sorted(label for _, label in _all_rows(prepared.train))
  np.testing.assert_allclose(labels, [-0.1, 2.5])
  assert "classes" not in prepared.facts
  for bad in ("high", "nan", "inf"):
    _write(tmp_path / "a.tsv", f"sentence\tlabel\na\t2.5\nb\t{bad}\n")
    with pytest.raises(UserError, match=rf"line 3: the label.*number.*'{bad}'"):
      _prepare(tokenizer, tmp_path, files=files, task="regression")


CONLL = (
  "-DOCSTART- -X- O O\n\n"
  "The DT B-NP O\ndog NN I-NP O\nbarks VB B-VP O\nin IN B-PP O\n"
  "Nairobi NNP B-NP B-LOC\n. . O O\n\nThe DT B-NP O\nfilm NN I-NP O\n"
)


def test_tags_sit_on_the_first_piece_of_each_word(tokenizer, tmp_path):
  files = _write(tmp_path / "a.conll", CONLL)
  prepared, _ = _prepare(
    tokenizer, tmp_path, files=files, validation_files=files, task="tagging"
  )
  assert prepared.facts["classes"] == ["B-LOC", "O"]
  batch = prepared.validation.batch_at(0, 0)
  row = batch["inputs"][0]
  tagged = np.flatnonzero(batch["tag_weights"][0])
  assert tokenizer.word_starts[row[tagged]].all()
  assert batch["tags"][0, tagged].tolist() == [1, 1, 1, 1, 0, 1]
  rest = np.setdiff1d(np.flatnonzero(batch["segments"][0]), tagged)
  assert not (tokenizer.word_starts & ~tokenizer.is_special)[row[rest]].any()
  assert "labels" not in batch
  by_column, _ = _prepare(
    tokenizer, tmp_path, files=files, task="tagging", text=0, label=1
  )
  assert by_column.facts["classes"] == [".", "DT", "IN", "NN", "NNP", "VB"]


def test_long_tagged_sentences_go_on_in_a_further_row(tokenizer, tmp_path):
  words = [f"dog{'s' * (i % 3)}" for i in range(40)]
  text = "\n".join(f"{w} T{i % 5}" for i, w in enumerate(words))
  files = _write(tmp_path / "a.conll", text)
  prepared, said = _prepare(
    tokenizer, tmp_path, files=files, validation_files=files, task="tagging"
  )
  task = prepared.validation
  tags, found = [], []
  for step in range(-(-task.rows // 2)):
    batch = task.batch_at(0, step)
    row, place = np.nonzero(batch["tag_weights"])
    tags += batch["tags"][row, place].tolist()
    found += [tokenizer.pieces[i] for i in batch["inputs"][row, place]]
  assert tags == [i % 5 for i in range(40)]  # no word is lost
  assert len(found) == 40 and task.rows > 1
  assert prepared.facts["cut_rows"] == 1 and "go on in a further row" in said[0]


def test_tags_from_jsonl_lists(tokenizer, tmp_path):
  row = {"tokens": ["The", "dog"], "tags": ["D", "N"]}
  files = _write(tmp_path / "a.jsonl", json.dumps(row))
  fields = dict(files=files, task="tagging", text="tokens", label="tags")
  prepared, _ = _prepare(tokenizer, tmp_path, **fields)
  assert prepared.facts["labels"] == {"D": 1, "N": 1}
  _write(tmp_path / "a.jsonl", json.dumps({**row, "tags": ["D"]}))
  with pytest.raises(UserError, match="line 1: 2 words in 'tokens' but 1 tags"):
    _prepare(tokenizer, tmp_path, **fields)
  _write(tmp_path / "a.jsonl", json.dumps({**row, "tags": "DN"}))
  with pytest.raises(UserError, match="'tags' should be a list of strings"):
    _prepare(tokenizer, tmp_path, **fields)


def test_words_keep_their_space_in_byte_level_vocabularies(tmp_path):
  words = ["the", "dog", "barks"]
  bpe = tokenizers.train(
    {"kind": "byte_bpe", "vocab_size": 300}, ["the dog barks"] * 9
  )
  files = _write(tmp_path / "a.conll", "the D\ndog N\nbarks V\n")
  task = _prepare(bpe, tmp_path, files=files, task="tagging")[0].train
  batch = task.batch_at(0, 0)
  ids = batch["inputs"][0][batch["segments"][0] > 0]
  assert bpe.bracket(bpe.encode(" ".join(words)))[0] == ids.tolist()


def test_decoders_are_read_at_their_last_token(tmp_path):
  bpe = tokenizers.train(
    {"kind": "byte_bpe", "vocab_size": 300, "template": "gpt2"}, [TSV] * 9
  )
  files = _write(tmp_path / "a.tsv", TSV)
  batch = _prepare(bpe, tmp_path, files=files)[0].train.batch_at(0, 0)
  last = batch["segments"].sum(axis=1) - 1
  np.testing.assert_array_equal(batch["cls_positions"][:, 0], last)


def test_mistakes_are_told_with_file_and_line(tokenizer, tmp_path):
  files = _write(tmp_path / "a.tsv", TSV)
  with pytest.raises(UserError, match="data.text.*'sentense'.*'sentence'"):
    _prepare(tokenizer, tmp_path, files=files, text="sentense")
  with pytest.raises(
    UserError, match="data.label.*'lable'.*Known: label, sent"
  ):
    _prepare(tokenizer, tmp_path, files=files, label="lable")
  _write(tmp_path / "b.tsv", TSV + "no tab here\n")
  with pytest.raises(
    UserError, match=r"b\.tsv', line 7: 1 columns, expected 2"
  ):
    _prepare(tokenizer, tmp_path, files=str(tmp_path / "b.tsv"))
  _write(tmp_path / "b.tsv", TSV + "text\t\n")
  with pytest.raises(UserError, match=r"b\.tsv', line 7: the label is empty"):
    _prepare(tokenizer, tmp_path, files=str(tmp_path / "b.tsv"))
  other = _write(tmp_path / "c.tsv", "sentence\tlabel\nfilm\t1\nfilm\t2\n")
  with pytest.raises(
    UserError, match=r"c\.tsv', line 3 has an unknown label '2'"
  ):
    _prepare(tokenizer, tmp_path, files=files, validation_files=other)
  _write(tmp_path / "d.tsv", "")
  with pytest.raises(UserError, match=r"d\.tsv' holds no labelled row"):
    _prepare(tokenizer, tmp_path, files=str(tmp_path / "d.tsv"))
  with pytest.raises(UserError, match="data.validation_files: nothing matches"):
    _prepare(tokenizer, tmp_path, files=files, validation_files="none.tsv")
  _write(tmp_path / "d.tsv", "sentence\tlabel\na\tx\nb\tx\n")
  with pytest.raises(UserError, match="one class only, 'x'"):
    _prepare(tokenizer, tmp_path, files=str(tmp_path / "d.tsv"))
  with pytest.raises(UserError, match="'classify'.*Did you mean 'classif"):
    _prepare(tokenizer, tmp_path, files=files, task="classify")
  with pytest.raises(UserError, match="data.length=2 leaves no room"):
    _prepare(tokenizer, tmp_path, files=files, length=2)
  with pytest.raises(UserError, match="validation_share.*found 1.5"):
    _prepare(tokenizer, tmp_path, files=files, validation_share=1.5)
  _write(tmp_path / "e.conll", "The D\ndog\n")
  with pytest.raises(
    UserError, match=r"e\.conll', line 2: 1 columns, expected"
  ):
    _prepare(
      tokenizer, tmp_path, files=str(tmp_path / "e.conll"), task="tagging"
    )


def test_a_vocabulary_is_trained_once(tmp_path):
  files = _write(tmp_path / "a.tsv", TSV)
  spec = {"kind": "wordpiece", "vocab_size": 100, "min_frequency": 1}
  prepared, said = _prepare(spec, tmp_path, files=files)
  assert "trained" in said[0]
  again, said = _prepare(spec, tmp_path, files=files)
  assert "unchanged" in said[0] and again.tokenizer == prepared.tokenizer
  loaded = Tokenizer.load(tmp_path / "run" / "tokenizer")
  assert loaded == prepared.tokenizer
  with pytest.raises(UserError, match="already holds another vocabulary"):
    _prepare({**spec, "lowercase": True}, tmp_path, files=files)


def test_a_vocabulary_is_measured_on_the_texts(tokenizer, tmp_path):
  files = _write(tmp_path / "a.tsv", TSV)
  data = datasets.build({"kind": "labelled", "files": files})
  found = data.tokenizer_report(
    tokenizer=tokenizer, workdir=tmp_path, seed=0, report=lambda said: None
  )
  assert (found["documents"], found["unknown_rate"]) == (4, 0)
  assert found["words"] == 3 + 3 + 7 + 1


def test_other_files_are_evaluated_alike(tokenizer, tmp_path):
  files = _write(tmp_path / "a.tsv", TSV)
  data = datasets.build({"kind": "labelled", "length": 16})
  task = data.evaluation(
    files, tokenizer=tokenizer, batch_size=3, classes=("1", "0")
  )
  assert task.rows == 4
  assert [label for _, label in _all_rows(task)] == [0, 1, 0, 1]


def test_sst2_and_cola(shared, tmp_path):
  vocabulary = real.unpack(
    shared, tmp_path, "vocab/bert-base-uncased-vocab.txt.gz", "vocab.txt"
  )
  bert = Tokenizer.load(vocabulary)
  folder = shared / "glue"
  prepared, _ = _prepare(
    bert,
    tmp_path,
    batch_size=32,
    files=str(folder / "SST-2" / "dev.tsv.gz"),
    length=64,
  )
  assert prepared.train.rows == 872
  assert prepared.facts["labels"] == {"0": 428, "1": 444}
  cola, _ = _prepare(
    bert,
    tmp_path,
    batch_size=32,
    files=str(folder / "CoLA" / "train.tsv.gz"),
    validation_files=str(folder / "CoLA" / "dev.tsv.gz"),
    header=False,
    text=3,
    label=1,
    length=64,
  )
  assert (cola.train.rows, cola.validation.rows) == (8551, 1043)
  steps = range(-(-1043 // 32))
  weights = sum(
    cola.validation.batch_at(0, s)["label_weights"].sum() for s in steps
  )
  assert weights == 1043
  first = cola.validation.batch_at(0, 0)
  text = bert.decode(first["inputs"][0])
  assert text == "the sailors rode the breeze clear of the rocks ."


def test_sts_b_and_ud_tagging(shared, tmp_path):
  vocabulary = real.unpack(
    shared, tmp_path, "vocab/bert-base-cased-vocab.txt.gz", "vocab.txt"
  )
  bert = Tokenizer.load(vocabulary)
  sts, _ = _prepare(
    bert,
    tmp_path,
    files=str(shared / "glue" / "STS-B" / "dev.tsv.gz"),
    text="sentence1",
    pair="sentence2",
    label="score",
    task="regression",
    length=64,
  )
  assert sts.train.rows == 1500
  assert sts.train.batch_at(0, 0)["labels"].min() >= 0
  names = sorted((shared / "tagging" / "ud-ewt").glob("*dev*"))
  if not names:
    pytest.skip("the shared data has no tagging/ud-ewt")
  plain = real.unpack(
    shared, tmp_path, f"tagging/ud-ewt/{names[0].name}", "dev.conllu"
  )
  tags, _ = _prepare(
    bert, tmp_path, batch_size=64, files=str(plain), task="tagging", length=64
  )
  assert len(tags.facts["classes"]) in (17, 18)
  assert "NOUN" in tags.facts["classes"]
  words = sum(
    line.split("\t")[0].isdigit()
    for line in plain.read_text("utf-8").split("\n")
  )
  assert sum(tags.facts["labels"].values()) == words


def test_balanced_batches_hold_every_class(tokenizer, tmp_path):
  rows = ["sentence\tlabel"]
  for i in range(22):  # told apart by their lengths
    rows.append(f"{'film ' * (i % 10 + 1)}\t{'abc'[min(i // 10, 2)]}")
  files = _write(tmp_path / "a.tsv", "\n".join(rows))
  fields = dict(files=files, batch_size=7, balanced=True)
  task = _prepare(tokenizer, tmp_path, **fields)[0].train
  seen = []
  for step in range(5):
    batch = task.batch_at(0, step)
    labels = batch["labels"][:, 0]
    np.testing.assert_array_equal(np.bincount(labels), [3, 2, 2])
    seen += [tuple(row) for row in batch["inputs"][labels == 1]]
  assert len(set(seen)) == 10  # each of the class once in its own epoch
  task = _prepare(tokenizer, tmp_path, **fields | dict(batch_size=8))[0].train
  halves = [task.batch_at(3, 4, (i, 2)) for i in range(2)]
  for key, value in task.batch_at(3, 4).items():
    both = np.concatenate([half[key] for half in halves])
    np.testing.assert_array_equal(both, value)
  with pytest.raises(UserError, match="a regression has no classes of rows"):
    _prepare(tokenizer, tmp_path, **fields | dict(task="regression"))
