"""What a report is made of: frozen, plain data, each able to write itself.

A section has a title (may be empty) and `html()`, its body. Text is escaped;
only `Figure.svg`, which `figures.py` draws, is put in as it is.
"""

import dataclasses
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from jaxlm.reports import numbers


class Section(Protocol):
  """A titled part of a report."""

  title: str

  def html(self) -> str:
    """The body; the page adds the title."""


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of cells under column names; numbers are written by `numbers.text`.

  Attributes:
    title: above the table.
    columns: names of the columns.
    rows: cells, one for each column.
    note: a sentence below.
  """

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[Any]]
  note: str = ""

  def __post_init__(self):
    for row in self.rows:
      if len(row) != len(self.columns):
        raise ValueError(
          f"table '{self.title}' has {len(self.columns)} columns, but a row "
          f"has {len(row)} cells: {row!r}"
        )

  def html(self) -> str:
    """An HTML table."""
    head = "".join(
      f'<th scope="col"{self._align(i)}>{_escape(name)}</th>'
      for i, name in enumerate(self.columns)
    )
    body = "".join(f"<tr>{self._row(row)}</tr>" for row in self.rows)
    return (
      f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
      f"<tbody>{body}</tbody></table></div>{_note(self.note)}"
    )

  def markdown(self) -> str:
    """A table of Markdown, ending in a newline."""
    lines = [_markdown_row(self.columns)]
    lines.append(
      _markdown_row(
        "---:" if self._is_number(i) else "---"
        for i in range(len(self.columns))
      )
    )
    lines += [_markdown_row(map(numbers.text, row)) for row in self.rows]
    return "\n".join(lines) + "\n"

  def rich(self):
    """A `rich.table.Table` for the terminal."""
    from rich.table import Table as RichTable
    from rich.text import Text as RichText

    made = RichTable(
      title=self.title or None, caption=self.note or None, title_justify="left"
    )
    for i, name in enumerate(self.columns):
      made.add_column(
        RichText(name), justify="right" if self._is_number(i) else "left"
      )
    for row in self.rows:  # as Text: '[MASK]' in a cell is no markup
      made.add_row(*(RichText(numbers.text(cell)) for cell in row))
    return made

  def _row(self, row) -> str:
    first, *rest = (_escape(numbers.text(cell)) for cell in row)
    cells = [f'<th scope="row">{first}</th>']
    cells += [f"<td{self._align(i)}>{c}</td>" for i, c in enumerate(rest, 1)]
    return "".join(cells)

  def _align(self, column: int) -> str:
    return ' class="number"' if self._is_number(column) else ""

  def _is_number(self, column: int) -> bool:
    cells = [row[column] for row in self.rows]
    return (
      column > 0
      and any(map(_is_numeric, cells))
      and all(cell is None or _is_numeric(cell) for cell in cells)
    )


@dataclasses.dataclass(frozen=True)
class Facts:
  """Names and values, such as what was run on which machine."""

  title: str
  values: Mapping[str, Any]
  note: str = ""

  def html(self) -> str:
    """A list of terms."""
    rows = "".join(
      f"<div><dt>{_escape(name)}</dt>"
      f"<dd>{_escape(numbers.text(value))}</dd></div>"
      for name, value in self.values.items()
    )
    return f'<dl class="facts">{rows}</dl>{_note(self.note)}'


@dataclasses.dataclass(frozen=True)
class Figure:
  """A drawing of `figures.py` with a sentence that says what it shows.

  Attributes:
    title: above.
    svg: the drawing.
    caption: below.
    half: stands beside its neighbour where the page is wide enough.
  """

  title: str
  svg: str
  caption: str = ""
  half: bool = False

  def html(self) -> str:
    """The drawing, inline."""
    caption = _escape(self.caption)
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{self.svg}{below}</figure>"


@dataclasses.dataclass(frozen=True)
class Text:
  """Paragraphs, parted by blank lines."""

  title: str
  body: str

  def html(self) -> str:
    """One <p> a paragraph."""
    paragraphs = (p.strip() for p in self.body.split("\n\n"))
    return "".join(f"<p>{_escape(p)}</p>" for p in paragraphs if p)


@dataclasses.dataclass(frozen=True)
class Listing:
  """Text in fixed width, such as a configuration; folded until opened.

  Attributes:
    title: above, always seen.
    body: a string, or plain data, shown as `a.b = value` lines.
    open: shown unfolded.
  """

  title: str
  body: str | Mapping[str, Any]
  open: bool = False

  def html(self) -> str:
    """A <details> with a <pre>."""
    text = self.body if isinstance(self.body, str) else lines(self.body)
    state = " open" if self.open else ""
    return (
      f"<details{state}><summary>{text.count(chr(10)) + 1} lines</summary>"
      f"<pre>{_escape(text)}</pre></details>"
    )


@dataclasses.dataclass(frozen=True)
class Example:
  """A text with a gap, and what a model puts into it.

  Attributes:
    text: contains `gap` once or more.
    guesses: (word, probability), the likeliest first.
    truth: the word that stood there, "" if unknown.
    gap: how the text writes the gap.
  """

  text: str
  guesses: Sequence[tuple[str, float]]
  truth: str = ""
  gap: str = "[MASK]"

  def html(self) -> str:
    """The text with its gap marked, and the guesses as bars."""
    gap = f"<mark>{_escape(self.truth or '?')}</mark>"
    text = gap.join(_escape(part) for part in self.text.split(self.gap))
    rows = "".join(self._guess(word, share) for word, share in self.guesses)
    return f'<li><p>{text}</p><ol class="guesses">{rows}</ol></li>'

  def _guess(self, word: str, share: float) -> str:
    right = ' class="right"' if self.truth and word == self.truth else ""
    return (
      f'<li{right} style="--share:{100 * share:.1f}%">'
      f"<span>{_escape(word)}</span> <span>{share:.0%}</span></li>"
    )


@dataclasses.dataclass(frozen=True)
class Examples:
  """Filled gaps."""

  title: str
  items: Sequence[Example]
  note: str = ""

  def html(self) -> str:
    """A list."""
    items = "".join(item.html() for item in self.items)
    return f'<ul class="examples">{items}</ul>{_note(self.note)}'


def table(
  records: Iterable[Mapping[str, Any]], *, title: str = "", note: str = ""
) -> Table:
  """A Table of records: a column for each key, in the order they come.

  A record that lacks a key leaves its cell empty. `.rich()` prints it on a
  terminal, `.markdown()` writes it into a document.
  """
  records = [dict(r) for r in records]
  columns = list(dict.fromkeys(key for r in records for key in r))
  rows = [[r.get(key) for key in columns] for r in records]
  return Table(title, columns, rows, note)


def lines(values: Mapping[str, Any], prefix: str = "") -> str:
  """Nested plain data as 'a.b = value' lines, in the order it has."""
  found = []
  for key, value in values.items():
    name = f"{prefix}{key}"
    if isinstance(value, Mapping) and value:
      found.append(lines(value, f"{name}."))
    else:
      found.append(f"{name} = {_plain(value)}")
  return "\n".join(found)


def _plain(value) -> str:
  try:
    return json.dumps(value, ensure_ascii=False)
  except TypeError:
    return repr(value)


def _is_numeric(cell) -> bool:
  """A number, or text that is shown like one: '0.67 ± 0.02'."""
  if isinstance(cell, str):
    return cell[:1].isdigit() or cell[:2] in ("\u2212", "$0", "< ")
  return not isinstance(cell, (bool, type(None))) and hasattr(cell, "__float__")


def _markdown_row(cells: Iterable[str]) -> str:
  kept = (str(c).replace("|", "\\|").replace("\n", " ") for c in cells)
  return f"| {' | '.join(kept)} |"


def _note(text: str) -> str:
  return f'<p class="note">{_escape(text)}</p>' if text else ""


def _escape(text: Any) -> str:
  return html.escape(str(text))
