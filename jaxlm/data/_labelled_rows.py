"""Labelled rows from TSV, CSV, JSONL and CoNLL files."""

import csv
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxlm import errors
from jaxlm.data import _read, sources

_CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel")
JSON = (".jsonl", ".ndjson", ".json")
_DELIMITERS = {".tsv": "\t", ".txt": "\t", ".csv": ","}
_FIELD = 1 << 24  # characters of one CSV cell


class Row(NamedTuple):
  """One labelled text, pair of texts, or list of tagged words.

  Attributes:
    path: its file.
    line: its line there, from 1.
    text: text, or the words.
    pair: second text, or None.
    label: label as written, or the tags.
  """

  path: str
  line: int
  text: str | list[str]
  pair: str | None
  label: str | list[str]

  @property
  def where(self) -> str:
    """For messages."""
    return f"'{self.path}', line {self.line}"


class Layout(NamedTuple):
  """Where a file keeps what; the fields of `Labelled`."""

  text: str | int
  pair: str | int
  label: str | int
  header: bool
  delimiter: str
  tagging: bool


def read(files, key: str, layout: Layout) -> Iterator[Row]:
  """Rows of all files, in sorted file order.

  Raises:
    UserError: nothing matches, an empty file, or a row that does not fit;
      the message names file and line.
  """
  for path in _read.find(files, key):
    found = False
    for row in _of_file(path, layout):
      found = True
      yield row
    if not found:
      raise errors.UserError(f"'{path}' holds no labelled row: it is empty.")


def score(row: Row) -> float:
  """The label as a number; raises UserError where it is none."""
  try:
    value = float(row.label)
  except ValueError:
    value = float("nan")
  if not np.isfinite(value):
    raise errors.UserError(
      f"{row.where}: the label of a regression should be a number, found "
      f"'{row.label}'."
    )
  return value


def _of_file(path, layout) -> Iterator[Row]:
  if _read.suffix(path) in JSON:
    return _json_rows(path, layout)
  if layout.tagging:
    return _tagged(path, layout)
  return _table(path, layout)


def _json_rows(path, layout) -> Iterator[Row]:
  for number, row in sources.json_rows(path):
    where = f"'{path}', line {number}"
    text, label = (field_of(where, row, n) for n in (layout.text, layout.label))
    if layout.tagging:
      yield Row(str(path), number, *_words(where, layout, text, label))
      continue
    pair = field_of(where, row, layout.pair) if named(layout.pair) else None
    check_text(where, layout.text, text)
    if named(layout.pair):
      check_text(where, layout.pair, pair)
    if label is None or isinstance(label, (list, dict)):
      raise errors.UserError(
        f"{where}: '{layout.label}' should be a label, found {label!r}."
      )
    yield Row(str(path), number, text, pair, str(label))


def check_text(where, name, value) -> None:
  """Raises UserError unless a value is a string."""
  if not isinstance(value, str):
    raise errors.UserError(
      f"{where}: '{name}' should be a string, found {str(value)[:40]}."
    )


def field_of(where, row, name):
  """A field of a JSON object; raises UserError where it is absent."""
  if name not in row:
    raise errors.unknown(f"{where} has no field", name, row)
  return row[name]


def _words(where, layout, words, tags):
  for name, values in ((layout.text, words), (layout.label, tags)):
    strings = isinstance(values, list) and all(
      isinstance(v, str) for v in values
    )
    if not strings:
      raise errors.UserError(
        f"{where}: '{name}' should be a list of strings, found "
        f"{str(values)[:40]}."
      )
  if len(words) != len(tags):
    raise errors.UserError(
      f"{where}: {len(words)} words in '{layout.text}' but {len(tags)} tags in "
      f"'{layout.label}'."
    )
  return words, None, tags


def _table(path, layout) -> Iterator[Row]:
  rows = cells_of(path, delimiter_of(path, layout.delimiter))
  header = None
  if layout.header:
    header = next(rows, (0, None))[1]
    if header is None:
      return
  columns, width = None, header and len(header)
  for number, cells in rows:
    if columns is None:
      width = width or len(cells)
      columns = _columns(path, layout, header, width)
    check_width(path, number, cells, width)
    text, pair, label = (
      None if column is None else cells[column] for column in columns
    )
    if not label.strip():
      raise errors.UserError(f"'{path}', line {number}: the label is empty.")
    yield Row(str(path), number, text, pair, label.strip())


def delimiter_of(path, given: str) -> str:
  """What stands between columns: what is given, or what the name tells."""
  found = given or _DELIMITERS.get(_read.suffix(path))
  if not found:
    raise errors.UserError(
      f"'{path}': its name does not tell how it is laid out. Expected .tsv, "
      ".csv, .txt or .jsonl (or these with .gz, .zst), or data.delimiter."
    )
  return {"tab": "\t", "\\t": "\t", "comma": ","}.get(found, found)


def cells_of(path, delimiter) -> Iterator[tuple[int, list[str]]]:
  """Cells of each row; in tab-separated files a quote is a character."""
  if delimiter == "\t":
    for number, line in _read.lines(path):
      if line.strip():
        yield number, line.split("\t")
    return
  csv.field_size_limit(_FIELD)
  lines = (f"{line}\n" for _, line in _read.lines(path))
  reader = csv.reader(lines, delimiter=delimiter, strict=True)
  first = 1
  try:
    for cells in reader:
      if cells:
        yield first, cells
      first = reader.line_num + 1
  except csv.Error as error:
    raise errors.UserError(
      f"'{path}', line {first}: the row is no CSV ({error})."
    ) from error


def _columns(path, layout, header, width):
  names = (layout.text, layout.pair, layout.label)
  keys = ("data.text", "data.pair", "data.label")
  return [
    column_number(path, key, name, header, width) if named(name) else None
    for key, name in zip(keys, names)
  ]


def named(name) -> bool:
  """Whether a column is asked for; 0 is one."""
  return name != "" and name is not None


def column_number(path, key, name, header, width) -> int:
  """The number of a column; raises UserError where there is none."""
  if header is not None and not isinstance(name, int):
    names = [cell.strip() for cell in header]
    if name not in names:
      raise errors.unknown(f"{key}: '{path}' has no column", name, names)
    return names.index(name)
  number = _integer(name)
  if number is None or not -width <= number < width:
    raise errors.UserError(
      f"{key}={name!r}: '{path}' has {width} columns and no header, so columns "
      f"are numbers from 0 to {width - 1}."
      if header is None
      else f"{key}={name!r}: '{path}' has {width} columns."
    )
  return number % width


def _integer(name) -> int | None:
  try:
    return int(name)
  except ValueError:
    return None


def check_width(path, number, cells, width) -> None:
  """Raises UserError unless a row has as many columns as the others."""
  if len(cells) != width:
    raise errors.UserError(
      f"'{path}', line {number}: {len(cells)} columns, expected {width}."
    )


def _tagged(path, layout) -> Iterator[Row]:
  """Sentences of a file with one word a line and blank lines between."""
  universal = _read.suffix(path) == ".conllu"
  words, tags, start, width = [], [], 0, None
  for number, line in _read.lines(path):
    if not line.strip():
      if words:
        yield Row(str(path), start, words, None, tags)
      words, tags = [], []
      continue
    cells = line.split("\t") if "\t" in line else line.split()
    if cells[0] == "-DOCSTART-" or (universal and _no_word(cells)):
      continue
    width = width or len(cells)
    check_width(path, number, cells, width)
    if width < 2:
      raise errors.UserError(
        f"'{path}', line {number}: expected a word and its tag, found "
        f"'{line[:40]}'."
      )
    start = start if words else number
    word, tag = _word_columns(path, layout, universal, width)
    words.append(cells[word])
    tags.append(cells[tag])
  if words:
    yield Row(str(path), start, words, None, tags)


def _no_word(cells) -> bool:
  """Comments, and CoNLL-U's multiword tokens (1-2) and empty nodes (1.1)."""
  return cells[0].startswith("#") or not cells[0].isdigit()


def _word_columns(path, layout, universal, width) -> tuple[int, int]:
  """Columns of word and tag.

  By number, or by name in CoNLL-U; other names mean the first and the last
  column, and form and universal part of speech in CoNLL-U.
  """
  found = []
  usual = (1, 3) if universal else (0, width - 1)
  names = (("data.text", layout.text), ("data.label", layout.label))
  for (key, name), default in zip(names, usual):
    if _integer(name) is not None:
      found.append(column_number(path, key, name, None, width))
    elif universal and name in _CONLLU:
      found.append(_CONLLU.index(name))
    else:
      found.append(default)
  return found[0], found[1]
