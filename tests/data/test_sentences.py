import gzip
import json

import numpy as np
import pytest

from jaxlm.data import datasets, tokenizers
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.errors import UserError

LINES = ["the dog barks", "a film", "", "very long film " * 6, "the dog"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
  spec = {"kind": "wordpiece", "vocab_size": 100}
  return tokenizers.train(spec, [" ".join(LINES)] * 9)


def _prepare(tokenizer, folder, batch_size=2, **fields):
  said = []
  spec = dict(kind="sentences", length=8, validation_share=0.0) | fields
  prepared = datasets.build(spec).prepare(
    tokenizer=tokenizer,
    workdir=folder / "run",
    batch_size=batch_size,
    seed=0,
    report=said.append,
  )
  return prepared, said


def _texts(tokenizer, batch, row) -> list[str]:
  """The text of each segment, brackets left out."""
  ids, segments = batch["inputs"][row], batch["segments"][row]
  return [
    tokenizer.decode(ids[segments == n]) for n in range(1, segments.max() + 1)
  ]


def test_a_line_comes_twice_in_its_row(tokenizer, tmp_path):
  file = tmp_path / "a.txt.gz"
  file.write_bytes(gzip.compress("\n".join(LINES).encode()))
  prepared, said = _prepare(tokenizer, tmp_path, files=str(file))
  assert said[-1] == (
    "Sentences: 4 training rows; 1 texts longer than 8 tokens were cut."
  )
  assert prepared.train.rows == 4 and prepared.facts["texts_a_row"] == 2
  seen = set()
  for step in range(2):
    batch = prepared.train.batch_at(0, step)
    assert set(batch) == set(prepared.train.batch_spec)
    for key, value in batch.items():
      spec = prepared.train.batch_spec[key]
      assert (value.shape, value.dtype) == (spec.shape, spec.dtype)
    for row in range(2):
      first, second = _texts(tokenizer, batch, row)
      assert first == second
      seen.add(first)
      ids, places = batch["inputs"][row], batch["cls_positions"][row]
      assert (ids[places] == tokenizer.cls_id).all()
      assert (batch["positions"][row][places] == 0).all()
      size = (batch["segments"][row] == 1).sum()
      np.testing.assert_array_equal(ids[:size], ids[size : 2 * size])
      assert (ids[2 * size :] == tokenizer.pad_id).all()
    assert (batch["view_weights"] == 1).all()
  cut = "very long film very long film"  # six tokens beside the brackets
  assert seen == {"the dog barks", "a film", cut, "the dog"}


TRIPLETS = [
  ("the dog barks", "a dog", "a film"),
  ("a film", "", "dog"),
  ("the film", "film", ""),
]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_columns_are_the_views_of_a_row(kind, tokenizer, tmp_path):
  file = tmp_path / f"a.{kind}"
  names = ("one", "two", "three")
  if kind == "jsonl":
    lines = [json.dumps(dict(zip(names, row))) for row in TRIPLETS]
  else:
    mark = "," if kind == "csv" else "\t"
    lines = [mark.join(row) for row in (names, *TRIPLETS)]
  file.write_text("\n".join(lines) + "\n", encoding="utf-8")
  prepared, _ = _prepare(tokenizer, tmp_path, files=str(file), columns=names)
  assert prepared.facts["blank_rows"] == 1  # without a positive
  batch = prepared.train.batch_at(0, 0)
  found = {
    tuple(_texts(tokenizer, batch, row)): batch["view_weights"][row, 0].tolist()
    for row in range(2)
  }
  assert found == {
    TRIPLETS[0]: [1.0, 1.0, 1.0],
    TRIPLETS[2]: [1.0, 1.0, 0.0],  # no hard negative
  }
  two, _ = _prepare(
    tokenizer, tmp_path, files=str(file), columns=("three", "one")
  )
  rows = [_texts(tokenizer, two.train.batch_at(0, 0), row) for row in range(2)]
  assert sorted(rows) == [["a film", "the dog barks"], ["dog", "a film"]]


def test_batches_are_a_function_of_seed_and_step(tokenizer, tmp_path):
  file = tmp_path / "a.txt"
  file.write_text("\n".join(f"dog {i}" for i in range(10)), encoding="utf-8")
  fields = dict(files=str(file), batch_size=4, validation_share=0.2)
  task = _prepare(tokenizer, tmp_path, **fields)[0].train
  whole = task.batch_at(3, 5)
  halves = [task.batch_at(3, 5, (i, 2)) for i in range(2)]
  for key, value in whole.items():
    np.testing.assert_array_equal(
      np.concatenate([half[key] for half in halves]), value
    )
  held = _prepare(tokenizer, tmp_path, **fields)[0].validation
  assert held.rows == 2
  weights = held.batch_at(0, 0)["view_weights"]
  np.testing.assert_array_equal(weights[:, 0, 0], [1, 1, 0, 0])
  np.testing.assert_array_equal(weights[:, 0, 1], [1, 1, 0, 0])


@pytest.mark.slow
def test_a_masked_view_hides_what_it_predicts(tokenizer, tmp_path):
  file = tmp_path / "a.txt"
  file.write_text("\n".join(["the dog barks film"] * 9), encoding="utf-8")
  prepared, _ = _prepare(
    tokenizer,
    tmp_path,
    files=str(file),
    masking=dict(kind="masking", rate=0.5, mask=1.0, random=0.0, keep=0.0),
  )
  task = prepared.train
  batch = task.batch_at(0, 3)
  assert set(batch) == set(task.batch_spec)
  restored = batch["corrupted_inputs"].copy()
  counts = batch["predict_weights"] > 0
  rows = np.nonzero(counts)[0]
  places = batch["predict_positions"][counts]
  assert (restored[rows, places] == tokenizer.mask_id).all()
  restored[rows, places] = batch["predict_ids"][counts]
  np.testing.assert_array_equal(restored, batch["inputs"])
  again = task.batch_at(0, 3, (1, 2))
  for key, value in batch.items():
    np.testing.assert_array_equal(again[key], value[1:])
  # Copies of a text are masked apart.
  hidden = [
    [tuple(row[segments == n] == tokenizer.mask_id) for n in (1, 2)]
    for step in range(8)
    for made in [task.batch_at(0, step)]
    for row, segments in zip(made["corrupted_inputs"], made["segments"])
  ]
  assert any(first != second for first, second in hidden)


@pytest.mark.parametrize(
  "fields, name, words",
  [
    (dict(columns=("sent",)), "a.csv", "no column 'sent'.*'sent1'"),
    (dict(), "a.csv", "data.columns is empty.*one sentence a line"),
    (dict(copies=1), "a.txt", "data.copies=1 makes 1 text a row"),
    (
      dict(columns=("sent0", "sent1"), copies=2),
      "a.csv",
      "copies=2 is for single texts",
    ),
    (dict(length=2), "a.txt", "leaves no room for text beside 2 special"),
    (dict(masking=dict(kind="causal")), "a.txt", "cannot be of the kind"),
    (dict(validation_share=1.0), "a.txt", "validation_share should be"),
  ],
)
def test_mistakes_are_told(fields, name, words, tokenizer, tmp_path):
  (tmp_path / "a.csv").write_text("sent0,sent1\na,b\n", encoding="utf-8")
  (tmp_path / "a.txt").write_text("a\nb\n", encoding="utf-8")
  with pytest.raises(UserError, match=words):
    _prepare(tokenizer, tmp_path, files=str(tmp_path / name), **fields)
