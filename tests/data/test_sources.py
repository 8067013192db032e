import gzip
import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from jaxlm.data import sources
from jaxlm.errors import UserError

NEPALI = "नेपाली भाषा।\nदोस्रो वाक्य।"


def _write(path, text):
  path.write_text(text, encoding="utf-8", newline="")
  return path


def _read(files, **options):
  return list(sources.documents(files, **options))


def test_blank_lines_part_documents_and_lines_stay_sentences(tmp_path):
  path = _write(tmp_path / "a.txt", f"one\ntwo\r\n \t\n\n{NEPALI}\n\n")
  assert _read(path) == ["one\ntwo", NEPALI]


def test_lines_or_the_whole_file_as_documents(tmp_path):
  path = _write(tmp_path / "a.txt", "\ufeffone\n\ntwo\u2028still two\n")
  assert _read(path, documents="line") == ["one", "two\u2028still two"]
  assert _read(path, documents="whole") == ["one\ntwo\u2028still two"]


def test_long_documents_are_cut_at_a_line(tmp_path, monkeypatch):
  monkeypatch.setattr(sources, "LONGEST", 10)
  path = _write(tmp_path / "a.txt", "12345\n" * 5)
  assert _read(path) == ["12345\n12345", "12345\n12345", "12345"]


def test_compressed_and_plain_files_read_alike(tmp_path):
  text = "one\n\ntwo\n" * 2000
  expected = _read(_write(tmp_path / "a.txt", text))
  gz, zst = tmp_path / "a.txt.gz", tmp_path / "a.txt.zst"
  gz.write_bytes(gzip.compress(text.encode()))
  half = len(text) // 2
  frame = zstandard.ZstdCompressor().compress
  zst.write_bytes(frame(text[:half].encode()) + frame(text[half:].encode()))
  assert _read(gz) == expected
  assert _read(zst) == expected


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_compressed_file_cut_short_is_named(tmp_path, kind):
  text = b"".join(b"line %d\n" % (i * 7919) for i in range(5000))
  pack = gzip.compress if kind == "gz" else zstandard.ZstdCompressor().compress
  path = tmp_path / f"a.txt.{kind}"
  path.write_bytes(pack(text)[:-20])
  with pytest.raises(UserError, match=rf"a\.txt\.{kind}.*broken.*cut short"):
    _read(path)


def test_jsonl_reads_a_field(tmp_path):
  rows = [{"body": "a\nb", "n": 1}, {"body": " "}, {"body": "ü", "text": "x"}]
  path = _write(
    tmp_path / "a.jsonl", "\n".join(json.dumps(r) for r in rows) + "\n\n"
  )
  assert _read(path, field="body") == ["a\nb", "ü"]


def test_jsonl_mistakes_are_told_with_their_line(tmp_path):
  path = _write(tmp_path / "a.jsonl", '{"text": "a"}\n{"txt": "b"}\n')
  with pytest.raises(UserError, match=r"line 2 has no field 'text'.*'txt'"):
    _read(path)
  _write(path, '{"text": "a"}\n{"text": \n')
  with pytest.raises(UserError, match=r"a\.jsonl', line 2 is not JSON"):
    _read(path)
  _write(path, '["a"]\n')
  with pytest.raises(UserError, match="line 1: expected an object"):
    _read(path)
  _write(path, '{"text": 3}\n')
  with pytest.raises(UserError, match="'text' should be a string, found 3"):
    _read(path)
  _write(path, '{"text": "\\ud800"}\n')
  with pytest.raises(UserError, match="line 1: 'text' holds half a surrogate"):
    _read(path)


def test_parquet_reads_a_column(tmp_path):
  path = tmp_path / "a.parquet"
  pq.write_table(
    pa.table({"text": ["one", None, NEPALI], "n": [1, 2, 3]}), path
  )
  assert _read(path) == ["one", NEPALI]
  with pytest.raises(UserError, match="no column 'texts'.*'text'.*Known: n, t"):
    _read(path, field="texts")
  with pytest.raises(UserError, match="'n' should hold strings, found int64"):
    _read(path, field="n")
  path.write_bytes(b"PAR1 nonsense")
  with pytest.raises(UserError, match=r"a\.parquet' is not a readable Parquet"):
    _read(path)


def test_files_come_sorted_from_globs_folders_and_lists(tmp_path):
  (tmp_path / "sub").mkdir()
  for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden.txt"):
    _write(tmp_path / name, name)
  everything = ["a.txt", "b.txt", "sub/c.txt"]
  assert _read(tmp_path) == everything
  assert _read(f"{tmp_path}/**/*.txt") == everything
  assert (
    _read(f"{tmp_path}/sub, {tmp_path}/b.txt,{tmp_path}/?.txt") == everything
  )
  assert _read((tmp_path / "b.txt", f"{tmp_path}/a*")) == everything[:2]


def test_a_file_reached_twice_is_read_once(tmp_path):
  path = _write(tmp_path / "a.txt", "once")
  (tmp_path / "link.txt").symlink_to(path)
  assert _read(f"{tmp_path},{tmp_path}/./a.txt") == ["once"]


def test_nothing_found_names_the_nearest(tmp_path):
  _write(tmp_path / "corpus.txt", "x")
  with pytest.raises(UserError, match="corpsu.txt'.*Did you mean 'corpus.txt'"):
    _read(tmp_path / "corpsu.txt")
  with pytest.raises(UserError, match=r"'.*\*\.text'.*holds: corpus\.txt"):
    _read(f"{tmp_path}/*.text")
  (tmp_path / "empty").mkdir()
  with pytest.raises(UserError, match="folder '.*empty' holds no file"):
    _read(tmp_path / "empty")
  with pytest.raises(UserError, match="data.files is empty"):
    _read("")
  with pytest.raises(UserError, match="nothing matches '.*nowhere/x/y.txt'"):
    _read(tmp_path / "nowhere" / "x" / "y.txt")


def test_empty_and_blank_files_are_told(tmp_path):
  _write(tmp_path / "a.txt", "text")
  path = _write(tmp_path / "b.txt", "")
  with pytest.raises(UserError, match=r"b\.txt' holds no text"):
    _read(tmp_path)
  _write(path, " \n\n")
  with pytest.raises(UserError, match=r"b\.txt' holds no text"):
    _read(path)


def test_bytes_that_are_not_utf8_are_told_with_their_line(tmp_path):
  path = tmp_path / "a.txt"
  path.write_bytes("fine\nalso é\n".encode() + b"caf\xe9\n")
  with pytest.raises(
    UserError, match=r"a\.txt', line 3: byte 0xe9 at column 4"
  ):
    _read(path)
  path.write_bytes("text".encode("utf-16"))
  with pytest.raises(UserError, match="line 1.*iconv -f UTF-16"):
    _read(path)


def test_unknown_choices_name_the_nearest(tmp_path):
  path = _write(tmp_path / "a.txt", "x")
  with pytest.raises(UserError, match="data.format.*'jsonll'.*'jsonl'"):
    _read(path, format="jsonll")
  with pytest.raises(UserError, match="data.documents.*'lines'.*'line'"):
    _read(path, documents="lines")


def test_fingerprint_follows_the_bytes(tmp_path):
  path = _write(tmp_path / "a.txt", "abc")
  assert sources.fingerprint(path) == [
    {
      "path": str(path),
      "name": "a.txt",
      "bytes": 3,
      "sha256": hashlib.sha256(b"abc").hexdigest(),
    }
  ]


def test_sentences_are_lines_or_else_split_at_their_ends():
  assert sources.sentences("One. Two.\n\n three ") == ["One. Two.", "three"]
  assert sources.sentences("Is it? Yes! Good.") == ["Is it?", "Yes!", "Good."]
  assert sources.sentences("पहिलो। दोस्रो।") == ["पहिलो।", "दोस्रो।"]
  assert sources.sentences("一。二！") == ["一。", "二！"]
  assert sources.sentences(" \n ") == []
