import math

import pytest

from jaxlm.demo import baseline, corpus, module_task
from jaxlm.errors import UserError


def records(library, monkeypatch):
  monkeypatch.setattr(
    module_task, "FEWEST_TEXTS", {"train": 4, "validation": 0, "test": 1}
  )
  return corpus.split(corpus.collect(library))


def test_classes_are_packages_of_several_files(library, monkeypatch):
  (library / "single.py").write_text(
    "\n".join(
      f'def f{i}():\n  """Text {i} of a lone module."""' for i in range(40)
    )
  )
  parts = records(library, monkeypatch)
  assert module_task.classes(parts) == ["pack0", "pack1", "pack2"]


def test_only_the_commonest_classes_are_kept(library, monkeypatch):
  (library / "pack0" / "more.py").write_text('"""One more text of it."""')
  monkeypatch.setattr(module_task, "MOST_CLASSES", 1)
  assert module_task.classes(records(library, monkeypatch)) == ["pack0"]


def test_names_are_taken_out_and_texts_are_cut(library, monkeypatch):
  parts = records(library, monkeypatch)
  long = "Pack0.Thing and PACK2 and unpack0ed " + "word " * 99
  parts["test"][0] = {**parts["test"][0], "text": long}
  found = module_task.examples(parts)
  words = found["test"][0]["text"].split()
  assert words[:4] == [".Thing", "and", "and", "unpack0ed"]
  assert len(words) == module_task.WORDS
  assert not any("pack1" in e["text"] for e in found["train"])


def test_too_few_packages(library, monkeypatch):
  parts = records(library, monkeypatch)
  only = {s: [r for r in v if r["module"] == "pack1"] for s, v in parts.items()}
  with pytest.raises(UserError, match="this Python has 1"):
    module_task.examples(only)


def test_majority():
  train = [{"text": "", "label": label} for label in "aabbbc"]
  test = [{"text": "", "label": label} for label in "bbca"]
  assert module_task.majority(train, test) == 0.5


@pytest.mark.slow
def test_real_task_has_many_classes(real_records):
  found = module_task.examples(corpus.split(real_records))
  labels = {e["label"] for e in found["train"]}
  assert len(labels) >= 5
  assert {e["label"] for e in found["test"]} == labels
  assert len(found["test"]) >= 100


def test_tfidf_finds_a_telling_word():
  def made(count):
    return [
      {"text": f"{word} of item {i}", "label": word}
      for i in range(count)
      for word in ("apple", "pear")
    ]

  found = baseline.tfidf(made(20), made(3), made(5))
  assert found == baseline.Accuracy(1.0, 0.0, 10)


def test_error_of_an_accuracy():
  found = baseline.accuracy(0.8, 100)
  assert found.error == pytest.approx(math.sqrt(0.8 * 0.2 / 100))
