import json

import pytest

from jaxlm.demo import materials, module_task
from jaxlm.errors import UserError


@pytest.fixture
def made(library, tmp_path, monkeypatch):
  monkeypatch.setattr(
    module_task, "FEWEST_TEXTS", {"train": 4, "validation": 0, "test": 1}
  )
  write = lambda: materials.write(tmp_path / "demo", root=library)
  return write(), write


def read(path):
  return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_files_hold_what_is_counted(made):
  found, _ = made
  for split, path in found.corpus.items():
    assert len(read(path)) == found.counts["texts"][split]
  for split, path in found.module.items():
    rows = read(path)
    assert len(rows) == found.counts["examples"][split]
    assert all(set(row) == {"text", "label"} for row in rows)
  assert found.counts["classes"] == ["pack0", "pack1", "pack2"]
  assert set(found.corpus) == {"train", "validation"}


def test_writing_again_changes_no_file(made):
  found, write = made
  path = found.corpus["train"]
  before = path.stat().st_mtime_ns
  assert write() == found
  assert path.stat().st_mtime_ns == before


def test_another_file_is_not_overwritten(made):
  found, write = made
  found.module["test"].write_text("mine\n")
  with pytest.raises(UserError, match=r"test\.jsonl.*not\s+overwritten"):
    write()
  assert found.module["test"].read_text() == "mine\n"
