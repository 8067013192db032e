"""Streams of documents from a user's own files.

Text, JSONL and Parquet, plain or compressed, in any UTF-8 script. Lines
inside a document stay lines: they are the sentences that pair objectives
split at.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from jaxlm import errors
from jaxlm import files as io
from jaxlm.data import _read

FORMATS = ("auto", "text", "jsonl", "parquet")
DOCUMENTS = ("blank_line", "line", "whole")
LONGEST = 1 << 24  # characters; a longer document is cut, to bound memory

_SUFFIXES = {
  ".jsonl": "jsonl",
  ".ndjson": "jsonl",
  ".json": "jsonl",
  ".parquet": "parquet",
}
# Latin, Greek, Cyrillic and others; Devanagari danda; Arabic, Urdu; Ethiopic;
# CJK, which puts no space behind a sentence.
_SENTENCE_END = re.compile(
  r"(?<=[.!?\u2026\u0964\u0965\u061f\u06d4\u1362])\s+|(?<=[\u3002\uff01\uff1f])"
)


def documents(
  files, *, format="auto", field="text", documents="blank_line"
) -> Iterator[str]:
  """Streams the documents of `files` in sorted file order.

  Args:
    files: a path, a folder, a glob pattern, several separated by commas, or a
      tuple of those.
    format: "text", "jsonl", "parquet", or "auto": by the suffix.
    field: the name of the text in a JSONL line or of the Parquet column.
    documents: what a document is in a text file: lines up to a "blank_line",
      each "line", or the "whole" file. Rows of the other formats are
      documents.

  Yields:
    Documents that hold more than white space, sentences separated by
    newlines. A text document of over `LONGEST` characters is cut at a line.

  Raises:
    UserError: nothing matches; an empty, unreadable or non-UTF-8 file; a line
      that is not JSON or lacks the field; no such column.
  """
  _one_of("data.format", format, FORMATS)
  _one_of("data.documents", documents, DOCUMENTS)
  for path in _read.find(files):
    kind = format_of(path) if format == "auto" else format
    found = False
    for document in _of_file(path, kind, field, documents):
      found = True
      yield document
    if not found:
      raise errors.UserError(f"'{path}' holds no text: it is empty or blank.")


def format_of(path) -> str:
  """The format that a file's suffix tells; text where it tells nothing."""
  return _SUFFIXES.get(_read.suffix(path), "text")


def fingerprint(files) -> list[dict[str, Any]]:
  """What identifies the files: [{path, name, bytes, sha256}], sorted by path.

  Raises:
    UserError: nothing matches.
  """
  return [
    {
      "path": str(path),
      "name": path.name,
      "bytes": path.stat().st_size,
      "sha256": io.sha256(path),
    }
    for path in _read.find(files)
  ]


def sentences(document: str) -> list[str]:
  """The sentences of a document: its lines that are not blank.

  A document of one line is split after sentence-ending punctuation, a rough
  rule that knows no abbreviations: good enough to find a place to split at.
  """
  lines = [line.strip() for line in document.split("\n")]
  lines = [line for line in lines if line]
  if len(lines) == 1:
    lines = [s for s in _SENTENCE_END.split(lines[0]) if s and s.strip()]
  return lines


def _of_file(path, kind, field, unit) -> Iterator[str]:
  if kind == "jsonl":
    return _jsonl(path, field)
  if kind == "parquet":
    return _parquet(path, field)
  return _text(path, unit)


def _text(path, unit) -> Iterator[str]:
  kept: list[str] = []
  size = 0
  for _, line in _read.lines(path):
    blank = not line.strip()
    ends = unit == "line" or (blank and unit == "blank_line")
    if not blank:
      kept.append(line)
      size += len(line) + 1
    if kept and (ends or size > LONGEST):
      yield "\n".join(kept)
      kept, size = [], 0
  if kept:
    yield "\n".join(kept)


def _jsonl(path, field) -> Iterator[str]:
  for number, row in json_rows(path):
    text = row.get(field)
    if not isinstance(text, str):
      raise errors.UserError(_no_text(path, number, row, field))
    try:
      text.encode()
    except UnicodeEncodeError as error:
      raise errors.UserError(
        f"'{path}', line {number}: '{field}' holds half a surrogate pair "
        f"({text[error.start]!r}), which is no character."
      ) from error
    if text.strip():
      yield text


def json_rows(path) -> Iterator[tuple[int, dict[str, Any]]]:
  """(line number, object) of a JSONL file; blank lines are passed over.

  Raises:
    UserError: a line that is not a JSON object, with file and line.
  """
  for number, line in _read.lines(path):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except ValueError as error:
      raise errors.UserError(
        f"'{path}', line {number} is not JSON ({error}). JSONL holds one "
        "object a line."
      ) from error
    if not isinstance(row, dict):
      raise errors.UserError(
        f"'{path}', line {number}: expected an object such as "
        f'{{"text": "..."}}, found {line[:40]!r}.'
      )
    yield number, row


def _no_text(path, number, row, field) -> str:
  if field not in row:
    return str(
      errors.unknown(f"'{path}', line {number} has no field", field, row)
    )
  return (
    f"'{path}', line {number}: '{field}' should be a string, found "
    f"{row[field]!r}."
  )


def _parquet(path, field) -> Iterator[str]:
  import pyarrow as pa
  import pyarrow.parquet as pq

  try:
    with pq.ParquetFile(path) as file:
      _check_column(path, file.schema_arrow, field, pa)
      for batch in file.iter_batches(1024, columns=[field]):
        for text in batch.column(0).to_pylist():
          if text and text.strip():
            yield text
  except (pa.ArrowInvalid, OSError) as error:
    raise errors.UserError(
      f"'{path}' is not a readable Parquet file: {error}"
    ) from error


def _check_column(path, schema, field, pa) -> None:
  if field not in schema.names:
    raise errors.unknown(f"'{path}' has no column", field, schema.names)
  kind = schema.field(field).type
  if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
    raise errors.UserError(
      f"'{path}': column '{field}' should hold strings, found {kind}."
    )


def _one_of(key, value, known) -> None:
  if value not in known:
    raise errors.unknown(f"{key} cannot be", value, known)
