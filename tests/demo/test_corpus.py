import pytest

from jaxlm.demo import corpus
from jaxlm.errors import UserError


def test_texts_of_modules_classes_and_functions_in_file_order(library):
  (library / "alone.py").write_text(
    '"""A module that stands alone."""\n'
    "class A:\n"
    '  """A class with\n  two lines here."""\n'
    "  async def f(self):\n"
    '    """A coroutine of the class."""\n'
    "  def g(self): pass\n",
    encoding="utf-8",
  )
  found = [r for r in corpus.collect(library) if r["file"] == "alone.py"]
  assert [r["text"] for r in found] == [
    "A module that stands alone.",
    "A class with\ntwo lines here.",
    "A coroutine of the class.",
  ]
  assert {r["module"] for r in found} == {"alone"}


def test_each_text_once_and_none_too_short(library):
  (library / "zz.py").write_text(
    '"""Module 0 of package 0 says this."""\n'
    "def f():\n"
    '  """Too short."""\n'
    "def g():\n"
    '  """>>> 1 + 1 == 2 * 3 ** 4"""\n',
    encoding="utf-8",
  )
  records = corpus.collect(library)
  texts = [r["text"] for r in records]
  assert len(texts) == len(set(texts))
  assert not [r for r in records if r["file"] == "zz.py"]


def test_files_that_cannot_be_parsed_are_passed_over(library):
  before = corpus.collect(library)
  (library / "broken.py").write_text("def f(:\n", encoding="utf-8")
  (library / "bytes.py").write_bytes(b'"""caf\xe9 is not UTF-8 here."""\n')
  (library / "null.py").write_bytes(b'"""A null\0 byte is in here."""\n')
  (library / "half.py").write_text(
    '"""Half a pair \\udc80 of surrogates here."""\n', encoding="utf-8"
  )
  assert corpus.collect(library) == before


def test_declared_encodings_are_read(library):
  (library / "latin.py").write_bytes(
    b'# -*- coding: latin-1 -*-\n"""Le caf\xe9 est noir ici."""\n'
  )
  texts = [r["text"] for r in corpus.collect(library)]
  assert "Le caf\u00e9 est noir ici." in texts


@pytest.mark.parametrize(
  "place",
  ["test/a.py", "pack0/tests/a.py", "site-packages/x/a.py", "test_a.py"],
)
def test_tests_and_installed_packages_are_left_out(library, place):
  (library / place).parent.mkdir(parents=True, exist_ok=True)
  (library / place).write_text('"""Not for the corpus at all."""\n')
  texts = [r["text"] for r in corpus.collect(library)]
  assert "Not for the corpus at all." not in texts


def test_topics_are_cut_and_quote_nothing_twice(library):
  found = [
    r["text"] for r in corpus.collect(library) if r["module"] == "pydoc_data"
  ]
  assert found == [
    "The first topic\n***************\n\nIts text says something here.",
    "Another text follows it here.",
  ]


def test_no_file_is_in_two_splits_and_topics_are_for_training(library):
  records = corpus.collect(library)
  parts = corpus.split(records)
  files = {s: {r["file"] for r in rows} for s, rows in parts.items()}
  assert not files["train"] & files["validation"]
  assert not files["train"] & files["test"]
  assert not files["validation"] & files["test"]
  assert sum(map(len, parts.values())) == len(records)
  assert corpus.TOPICS in files["train"]


def test_the_split_does_not_depend_on_the_order_of_records(library):
  records = corpus.collect(library)
  assert corpus.assign(records) == corpus.assign(records[::-1])


def test_a_stripped_installation_is_told(tmp_path):
  (tmp_path / "os.py").write_text('"""The only source that is left."""\n')
  with pytest.raises(UserError, match="holds only 1 texts.*stripped"):
    corpus.collect(tmp_path)


@pytest.mark.slow
def test_the_real_library(real_records):
  assert len(real_records) > corpus._FEWEST
  files = [r["file"] for r in real_records]
  assert files == sorted(files)
  assert not any("/test/" in f or "site-packages" in f for f in files)
  parts = corpus.split(real_records)
  size = {s: sum(len(r["text"]) for r in rows) for s, rows in parts.items()}
  total = sum(size.values())
  assert total > 400_000
  for name, share in corpus.SHARES.items():
    assert size[name] / total == pytest.approx(share, abs=0.06)
