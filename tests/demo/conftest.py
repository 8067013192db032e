"""A made standard library, small enough to know by heart, and the real one."""

import pytest

from jaxlm.demo import corpus

TOPICS = {
  "one": "The first topic\n***************\n\nIts text says something here.\n",
  "two": "Its text says something here.\n\nAnother text follows it here.\n",
}


def write_library(root, packages=3, files=6, texts=4):
  """`packages` packages of `files` files with `texts` docstrings each."""
  for p in range(packages):
    for f in range(files):
      lines = [f'"""Module {f} of package {p} says this."""']
      for t in range(texts):
        lines.append(f"def function_{t}():")
        lines.append(f'  """Return value {t} of file {f} in pack{p} now."""')
      path = root / f"pack{p}" / f"part{f}.py"
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text("\n".join(lines), encoding="utf-8")
  (root / "pydoc_data").mkdir(exist_ok=True)
  (root / "pydoc_data" / "topics.py").write_text(f"topics = {TOPICS!r}\n")
  return root


@pytest.fixture
def library(tmp_path, monkeypatch):
  monkeypatch.setattr(corpus, "_FEWEST", 10)
  return write_library(tmp_path / "library")


@pytest.fixture(scope="session")
def real_records():
  return corpus.collect()
