"""Rows of one or several texts that belong together, from users' files."""

from collections.abc import Iterator
from typing import NamedTuple

from jaxlm import errors
from jaxlm.data import _labelled_rows, _read, sources


class Row(NamedTuple):
  """Texts that stand in one row of a file.

  Attributes:
    where: file and line, for messages.
    texts: one a column.
  """

  where: str
  texts: tuple[str, ...]


class Layout(NamedTuple):
  """Where a file keeps its texts; the fields of `Sentences`."""

  columns: tuple[str | int, ...] = ()
  header: bool = True
  delimiter: str = ""


def read(files, key: str, layout: Layout) -> Iterator[Row]:
  """Rows of all files, in sorted file order.

  Without columns every line that is not blank is a text.

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
      raise errors.UserError(f"'{path}' holds no text: it is empty or blank.")


def _of_file(path, layout) -> Iterator[Row]:
  json = _read.suffix(path) in _labelled_rows.JSON
  if layout.columns:
    return _objects(path, layout) if json else _table(path, layout)
  if json or _read.suffix(path) in (".tsv", ".csv"):
    raise errors.UserError(
      f"data.columns is empty, but '{path}' is no file of one sentence a "
      "line: name the columns or fields that hold texts, such as "
      "('sentence1', 'sentence2')."
    )
  return _lines(path)


def _lines(path) -> Iterator[Row]:
  for number, line in _read.lines(path):
    if line.strip():
      yield Row(f"'{path}', line {number}", (line.strip(),))


def _objects(path, layout) -> Iterator[Row]:
  for number, row in sources.json_rows(path):
    where = f"'{path}', line {number}"
    texts = []
    for name in layout.columns:
      texts.append(_labelled_rows.field_of(where, row, name))
      _labelled_rows.check_text(where, name, texts[-1])
    yield Row(where, tuple(texts))


def _table(path, layout) -> Iterator[Row]:
  delimiter = _labelled_rows.delimiter_of(path, layout.delimiter)
  rows = _labelled_rows.cells_of(path, delimiter)
  header = next(rows, (0, None))[1] if layout.header else None
  numbers, width = None, header and len(header)
  for line, cells in rows:
    if numbers is None:
      width = width or len(cells)
      numbers = [
        _labelled_rows.column_number(path, "data.columns", name, header, width)
        for name in layout.columns
      ]
    _labelled_rows.check_width(path, line, cells, width)
    yield Row(f"'{path}', line {line}", tuple(cells[n] for n in numbers))
