import html.parser
import io

import numpy as np
import pytest
from rich.console import Console

from jaxlm.reports import (
  Example,
  Examples,
  Facts,
  Listing,
  Table,
  Text,
  numbers,
  table,
)


class Outline(html.parser.HTMLParser):
  """Checks that tags close in order, and keeps them and the text."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.words = [], [], []
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    if tag not in ("meta", "br", "use", "path"):
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)

  def handle_endtag(self, tag):
    if tag not in ("use", "path"):
      assert self.open.pop() == tag

  def handle_data(self, data):
    self.words.append(data)


@pytest.mark.parametrize(
  "value, shown",
  [
    (None, "\u2013"),
    (1234567, "1,234,567"),
    (-5, "\u22125"),
    (0.123456, "0.1235"),
    (12345.6, "12,346"),
    (99.96, "99.96"),
    (1.5e12, "1.500e+12"),
    (2e-5, "2.000e-05"),
    (0.0, "0"),
    (float("nan"), "nan"),
    (True, "True"),
    ("text", "text"),
    (np.float32(0.5), "0.5"),
    (np.array([1, 2]), "[1 2]"),
  ],
)
def test_numbers(value, shown):
  assert numbers.text(value) == shown


def test_value_with_its_error():
  assert numbers.with_error(0.6666, 0.02) == "0.667 \u00b1 0.020"
  assert numbers.with_error(0.6666, None) == "0.667"


def test_records_become_columns_in_the_order_they_come():
  made = table([{"a": "x", "b": 1}, {"a": "y", "c": 2.5}], title="T")
  assert made.columns == ["a", "b", "c"]
  assert made.rows == [["x", 1, None], ["y", None, 2.5]]
  assert made.markdown() == (
    "| a | b | c |\n| --- | ---: | ---: |\n"
    "| x | 1 | \u2013 |\n| y | \u2013 | 2.5 |\n"
  )


def test_bars_in_cells_do_not_break_markdown():
  assert "a\\|b" in Table("", ["n"], [["a|b"]]).markdown()


def test_terminal_shows_square_brackets_as_they_are():
  stream = io.StringIO()
  made = Table("T", ["word", "share"], [["[MASK]", 0.5]], note="a note")
  Console(file=stream, width=60).print(made.rich())
  assert all(w in stream.getvalue() for w in ("[MASK]", "0.5", "a note"))


def test_a_row_of_the_wrong_length():
  with pytest.raises(ValueError, match="2 columns"):
    Table("T", ["a", "b"], [["only one"]])


@pytest.mark.parametrize(
  "section",
  [
    Table("t", ["a", "<b>"], [["<i>", 1]], note="<n>"),
    Facts("t", {"<k>": "<v>"}, note="<n>"),
    Text("t", "one <p>\n\ntwo & three"),
    Listing("t", {"a": {"<b>": "<v>"}}),
    Examples("t", [Example("a <b> [MASK]", [("<w>", 0.5)], "<w>")]),
  ],
)
def test_text_is_escaped_and_tags_close(section):
  outline = Outline(section.html())
  assert not {"b", "i", "k", "v", "n", "w"} & set(outline.tags)
  assert any("<" in word for word in outline.words)


def test_columns_of_numbers_are_aligned():
  made = Table("", ["n", "x", "y"], [["a", 1.5, "word"], ["b", None, "more"]])
  assert made.html().count('class="number"') == 3  # the head and two cells


def test_listing_flattens_nested_data():
  made = Listing("", {"seed": 0, "model": {"kind": "encoder", "heads": {}}})
  outline = Outline(made.html())
  assert "".join(outline.words).endswith(
    'seed = 0\nmodel.kind = "encoder"\nmodel.heads = {}'
  )


def test_example_marks_gap_and_right_guess():
  made = Example("Open the [MASK].", [("door", 0.25), ("file", 0.5)], "file")
  text = made.html()
  assert "Open the <mark>file</mark>." in text
  assert text.count('class="right"') == 1
  assert "--share:25.0%" in text and "50%" in text
