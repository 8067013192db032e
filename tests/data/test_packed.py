"""Raw files to batches: stages skipped, changes told, batches readable."""

import json
import shutil

import numpy as np
import pytest

from jaxlm.data import datasets, packed
from jaxlm.data.prepared import describe
from jaxlm.errors import UserError
from tests.data import fakes

TOKENIZER = dict(kind="wordpiece", vocab_size=200)
WORDS = ["the", "a", "cat", "dog", "bird", "tree", "river", "house", "walks"]
WORDS += ["sleeps", "sings", "under", "over", "near", "old", "small", "quiet"]


def corpus(path, documents=150, seed=0):
  rng = np.random.default_rng(seed)
  texts = []
  for _ in range(documents):
    sentences = [
      " ".join(rng.choice(WORDS, rng.integers(3, 9))) + "."
      for _ in range(rng.integers(2, 5))
    ]
    texts.append("\n".join(sentences))
  path.write_text("\n\n".join(texts))
  return path


def data_of(path, **more):
  spec = dict(kind="packed", files=str(path), length=32, validation_share=0.2)
  return datasets.build(spec | more)


def prepare(data, workdir, batch_size=4, tokenizer=TOKENIZER, told=None):
  return data.prepare(
    tokenizer=tokenizer,
    workdir=workdir,
    batch_size=batch_size,
    seed=0,
    report=(told if told is not None else []).append,
  )


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
  folder = tmp_path_factory.mktemp("packed")
  data = data_of(corpus(folder / "a.txt"))
  told = []
  made = prepare(data, folder / "run", told=told)
  return folder, data, made, told


def test_prepared(ready):
  folder, _, made, told = ready
  assert made.facts["vocab_size"] == made.tokenizer.vocab_size
  train, held_out = made.facts["train"], made.facts["validation"]
  assert train["documents"] + held_out["documents"] == 150
  assert 0.08 < held_out["documents"] / 150 < 0.35
  assert made.train.rows == train["rows"]
  assert made.validation.rows == held_out["rows"]
  batch = made.train.batch_at(0, 0)
  assert batch["inputs"].shape == (4, 32)
  assert batch["predict_ids"].shape == (4, 5)  # ceil(0.15 * 32)
  assert any("trained" in line for line in told)
  assert any("packed train" in line for line in told)
  json.dumps(made.facts)  # the run card holds it
  assert sorted(p.name for p in (folder / "run").iterdir()) == [
    "cache",
    "tokenizer",
  ]


def test_stages_are_skipped_and_say_so(ready):
  folder, data, made, _ = ready
  told = []
  again = prepare(data, folder / "run", told=told)
  assert len(told) == 2 and all("unchanged" in line for line in told)
  assert again.facts == made.facts
  for step in (0, 3):
    one, two = made.train.batch_at(5, step), again.train.batch_at(5, step)
    assert all(np.array_equal(one[k], two[k]) for k in one)


def test_held_out_documents_are_stable():
  texts = [f"document {i}" for i in range(5000)]
  first = {t for t in texts if packed.held_out(t, 0.1)}
  assert abs(len(first) / 5000 - 0.1) < 4 * np.sqrt(0.09 / 5000)
  assert first <= {t for t in texts if packed.held_out(t, 0.2)}
  assert not any(packed.held_out(t, 0) for t in texts)


def test_own_validation_files(tmp_path, ready):
  _, _, made, _ = ready
  corpus(tmp_path / "train.txt", 60)
  corpus(tmp_path / "held.txt", 12, seed=1)
  data = data_of(
    tmp_path / "train.txt", validation_files=str(tmp_path / "held.txt")
  )
  _, cache = data.build(
    tokenizer=made.tokenizer, workdir=tmp_path / "run", seed=0, report=str
  )
  splits = cache.manifest["splits"]
  assert splits["train"]["documents"] == 60
  assert splits["validation"]["documents"] == 12


def test_no_validation(tmp_path, ready):
  _, _, made, _ = ready
  data = data_of(corpus(tmp_path / "a.txt", 30), validation_share=0)
  told = []
  found = prepare(data, tmp_path / "run", tokenizer=made.tokenizer, told=told)
  assert found.validation is None
  assert any("no validation" in line for line in told)


def test_changes_are_told(ready, tmp_path):
  folder, data, made, _ = ready
  run = tmp_path / "run"
  shutil.copytree(folder / "run", run)
  other = data_of(folder / "a.txt", length=64)
  with pytest.raises(UserError, match="width was 32, the config gives 64"):
    prepare(other, run)
  more = corpus(tmp_path / "b.txt", 20, seed=3)
  both = data_of(f"{folder / 'a.txt'},{more}")
  with pytest.raises(UserError, match="files not in the cache: b.txt"):
    prepare(both, run, tokenizer=made.tokenizer)
  with pytest.raises(UserError, match="already holds another vocabulary"):
    prepare(data, run, tokenizer=TOKENIZER | dict(vocab_size=40))
  shutil.rmtree(run / "tokenizer")
  with pytest.raises(UserError, match="cache.*tokenizer was"):
    prepare(data, run, tokenizer=TOKENIZER | dict(vocab_size=40))


def test_a_damaged_cache_is_not_trained_on(ready, tmp_path):
  folder, data, _, _ = ready
  run = tmp_path / "run"
  shutil.copytree(folder / "run", run)
  shard = run / "cache" / "train-00000-segments.npy"
  shard.write_bytes(shard.read_bytes()[:-8])
  with pytest.raises(UserError, match="00000-segments.npy' has .*Delete"):
    prepare(data, run)
  (run / "cache" / "manifest.json").unlink()
  with pytest.raises(UserError, match="has no manifest.json"):
    prepare(data, run)


def test_too_little_data(ready):
  folder, data, _, _ = ready
  with pytest.raises(UserError, match="fewer than one batch of 4096"):
    prepare(data, folder / "run", batch_size=4096)


@pytest.mark.parametrize(
  "change,message",
  [
    (dict(length=0), "data.length is 0"),
    (dict(length=12.5), "data.length is 12.5"),
    (dict(validation_share=1.0), "data.validation_share is 1.0"),
    (dict(arrangement=dict(kind="document")), "Did you mean 'documents'"),
    (dict(corruption=dict(kind="masking", rat=0.2)), "takes no rat"),
    (
      dict(evaluation_corruption=dict(kind="causal")),
      "rows of different widths",
    ),
  ],
)
def test_mistakes_are_told_at_once(change, message):
  with pytest.raises(UserError, match=message):
    data_of("nowhere.txt", **change)


def test_no_files(tmp_path):
  with pytest.raises(UserError, match="data.files is empty"):
    prepare(data_of(""), tmp_path)


def test_a_batch_as_text(ready):
  _, _, made, _ = ready
  batch = made.train.batch_at(0, 0)
  text = describe(batch, made.tokenizer, rows=2)
  assert "row 0: " in text and "row 1: " in text and "row 2: " not in text
  assert "[CLS]" in text and "predict" in text
  assert "% of tokens" in text and "% padding" in text
  places = batch["predict_positions"][0][batch["predict_weights"][0] > 0]
  target = made.tokenizer.id_to_token(batch["predict_ids"][0][0])
  assert f"{places[0]}: " in text and f"-> {target}" in text


def test_labels_and_targets_as_text():
  tokenizer = fakes.NumberTokenizer()
  batch = {
    "inputs": np.array([[2, 7, 3, 2, 8, 3, 0]]),
    "segments": np.array([[1, 1, 1, 2, 2, 2, 0]]),
    "labels": np.array([[1, 0]]),
    "label_weights": np.array([[1.0, 1.0]]),
    "cls_positions": np.array([[0, 3]]),
    "targets": np.array([[7, 3, 0, 8, 3, 0, 0]]),
    "weights": np.array([[1.0, 1, 0, 1, 1, 0, 0]]),
  }
  assert describe(batch, tokenizer).split("\n") == [
    "row 0: 2 segments, 6 tokens",
    "  1 | 2 7 3",
    "    label 1",
    "  2 | 2 8 3",
    "    label 0",
    "6 tokens, 14.29% padding",
    "4 predictions, 66.67% of tokens",
  ]


def test_tokenizer_report(ready):
  folder, data, _, _ = ready
  found = data.tokenizer_report(
    tokenizer=TOKENIZER, workdir=folder / "run", seed=0, report=str
  )
  assert found["measured_on"] == "validation"
  assert found["unknown_rate"] == 0 and found["tokens_per_word"] >= 1
