"""What `jaxlm data` says of every recipe's batches, against a slow count.

The kinds of data are those of the registry: a new one is tested here as soon
as it is registered and a shipped config reads it.
"""

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from jaxlm.data import datasets, statistics
from jaxlm.data.prepared import describe, text_of
from tests.data import recipes, slow_counts
from tests.data.slow_counts import documents, ordinary_ids, solid

STEPS, ROWS, SEED = 2, 12, 3

HIDES_MORE = "masking_study:40_20"  # than it predicts
NAMES = {HIDES_MORE: "packed"} | recipes.variants()
# Of each kind of data the last config, and what it does not show of it.
DEFAULT = {kind: name for name, kind in NAMES.items()}
DEFAULT = set(DEFAULT.values()) | {
  "clear:tiny",  # rewords
  HIDES_MORE,
  "structbert:tiny",  # relations and shuffled words
  "ul2:tiny",  # takes parts of rows
  "finetune:regression",
  "finetune:tagging",
}
CASES = [
  pytest.param(name, marks=() if name in DEFAULT else pytest.mark.slow)
  for name in NAMES
]


def test_every_kind_of_data_is_in_a_shipped_config():
  assert set(NAMES.values()) == set(datasets.kinds())


@pytest.fixture(params=CASES)
def made(request, tmp_path):
  """(the data set, what it prepared, texts of training batches)."""
  data, tokenizer = recipes.spec(request.param)
  data = datasets.build(recipes.write(tmp_path, data))
  prepared = data.prepare(
    tokenizer=tokenizer,
    workdir=tmp_path / "run",
    batch_size=ROWS,
    seed=0,
    report=lambda line: None,
  )
  return data, prepared, list(pairs_of(prepared.train, range(STEPS)))


def pairs_of(task, steps):
  for step in steps:
    batch = task.batch_at(SEED, step)
    yield batch, text_of(task, SEED, step, batch)


def test_what_is_shown_and_measured(made, tmp_path):
  data, prepared, pairs = made
  read = solid(prepared.tokenizer, " ".join(recipes.written(data, tmp_path)))
  for batch, text in pairs:
    text_is_of_the_files(text, read, prepared.tokenizer)
    batch_is_of_the_text(batch, text, prepared.tokenizer)
    rows = rows_of(slow_counts.shown(batch, text, prepared))
    texts_are_shown(batch, text, rows, prepared.tokenizer)
    what_is_hidden_is_marked(batch, text, rows, prepared.tokenizer)
  for batch, text in pairs_of(prepared.validation, [0]):
    batch_is_of_the_text(batch, text, prepared.tokenizer)
  found = statistics.measure(prepared, seed=SEED, steps=STEPS)
  assert found.pop(statistics.Rates)._asdict() == pytest.approx(
    slow_counts.rates(pairs, prepared), rel=1e-12
  )
  for part in slow_counts.PARTS:
    part(found, pairs, prepared, tmp_path)
  assert not found
  fits = data.tokenizer_report(
    tokenizer=prepared.tokenizer, workdir=tmp_path / "run", seed=0
  )
  assert statistics.fit(fits)[0].startswith(
    f"{fits['measured_on']}: {fits['tokens_per_word']:.3f} tokens a word, "
    f"{fits['unknown_rate']:.3%} unknown"
  )


def text_is_of_the_files(text, read, tokenizer):
  """Between special tokens, each document is a piece of what was read."""
  for _, _, ids in documents(text["tokens"], text["segments"]):
    groups = itertools.groupby(ids, lambda i: bool(tokenizer.is_special[i]))
    for special, piece in groups:
      if not special:
        said = tokenizer.decode(list(piece)).removeprefix("##")
        assert solid(tokenizer, said) in read


def batch_is_of_the_text(batch, text, tokenizer):
  """With what is predicted put back, the model reads the text's tokens."""
  tokens = text["tokens"]
  if "predict_ids" in batch:
    assert (batch["predict_weights"] > 0).any()
    for row, place, target in slow_counts.predictions(batch):
      assert tokens[row, place] == target
  elif "decoder_inputs" in batch:
    for row in range(len(tokens)):
      said = batch["targets"][row][batch["weights"][row] > 0]
      ordinary = Counter(ordinary_ids(tokens[row], tokenizer))
      assert not ordinary - Counter(batch["inputs"][row]) - Counter(said)
  elif not text.get("reworded", np.zeros(1)).any():
    length = batch["inputs"].shape[1]
    assert (batch["inputs"] == tokens[:, :length]).all()


def rows_of(said: str) -> list[str]:
  """What is said of each row, and of the batch after the last."""
  first, *rows = re.split(r"^row \d+: ", said, flags=re.MULTILINE)
  assert not first and len(rows) == ROWS
  return rows


def texts_are_shown(batch, text, rows, tokenizer):
  """Each document in its row: as it is read, else as it was, too."""
  segments = batch["segments"]
  for row, segment, ids in documents(text["tokens"], text["segments"]):
    if segment > segments[row].max():
      continue  # a last target alone
    seen = batch["inputs"][row][segments[row] == segment].tolist()
    said = tokenizer.decode(seen, specials=True)
    assert f"  {segment} | {said}\n" in rows[row]
    if ids[: len(seen)] != seen:
      said = tokenizer.decode(ids, specials=True)
      assert f"    text | {said}\n" in rows[row]


def what_is_hidden_is_marked(batch, text, rows, tokenizer):
  """A token at a time, or as what a decoder is to say."""
  piece = tokenizer.id_to_token
  view = slow_counts.masked_view(batch)
  if "decoder_inputs" in batch:
    for row, ids, weights in zip(rows, batch["targets"], batch["weights"]):
      said = tokenizer.decode(ids[weights > 0], specials=True)
      assert f"    say | {said}" in row
  if "predict_ids" in batch:
    marks = [*slow_counts.predictions(batch)]
    for row, place in zip(*np.nonzero(view != text["tokens"])):
      marks.append((row, place, text["tokens"][row, place]))
    for row, place, target in marks:
      mark = f"{place}: {piece(view[row, place])} -> {piece(target)}"
      lines = (part for part in rows[row].split("\n") if mark in part)
      assert re.match("    (predict|hidden, not predicted) ", next(lines))


def test_a_blank_negative_does_not_count(tmp_path):
  lines = ["a,b,c"] + ["fine weather,a fine day,rain"] * 4 + ["a b,b c,"] * 4
  (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
  made = datasets.build(
    dict(
      kind="sentences",
      files=str(tmp_path / "rows.csv"),
      columns=("a", "b", "c"),
      validation_share=0.0,
    )
  ).prepare(
    tokenizer=dict(kind="wordpiece", vocab_size=60),
    workdir=tmp_path / "run",
    batch_size=8,
    seed=0,
    report=lambda line: None,
  )
  batch = made.train.batch_at(0, 0)
  lines = describe(batch, made.tokenizer, 8).split("\n")
  blank = [i for i, line in enumerate(lines) if line == "    does not count"]
  assert len(blank) == 4
  assert all(lines[i - 1].startswith("  3 | [CLS] [SEP]") for i in blank)
