"""Files that are never half-written."""

import hashlib
import json
import os
import stat

import pytest

from jaxlm import files


def test_a_file_appears_only_when_whole(tmp_path):
  path = tmp_path / "deep" / "a.txt"
  with files.replacing(path) as file:
    file.write("नेपाली")
    file.flush()
    assert not path.exists()
  assert path.read_text(encoding="utf-8") == "नेपाली"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_litter(tmp_path, error):
  path = tmp_path / "a.bin"
  path.write_bytes(b"old")
  with pytest.raises(error), files.replacing(path, "wb") as file:
    file.write(b"new")
    raise error
  assert path.read_bytes() == b"old"
  assert os.listdir(tmp_path) == ["a.bin"]


def test_others_may_read_what_the_umask_lets_them(tmp_path):
  before = os.umask(0o022)
  try:
    with files.replacing(tmp_path / "a.txt") as file:
      file.write("x")
  finally:
    os.umask(before)
  assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_json_is_sorted_and_reads_back(tmp_path):
  path = tmp_path / "a.json"
  files.write_json(path, {"b": [1, 2], "a": "क"})
  text = path.read_text(encoding="utf-8")
  assert text.index('"a"') < text.index('"b"') and text.endswith("}\n")
  assert "क" in text
  assert json.loads(text) == {"a": "क", "b": [1, 2]}


def test_sha256_is_of_the_bytes(tmp_path):
  path = tmp_path / "a"
  path.write_bytes(b"abc" * 100_000)
  assert files.sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_digest_ignores_the_order_of_keys_and_nothing_else():
  assert files.digest({"a": 1, "b": 2}) == files.digest({"b": 2, "a": 1})
  assert files.digest({"a": 1}) != files.digest({"a": "1"})
  assert files.digest([1, 2]) != files.digest([2, 1])
