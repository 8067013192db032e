import re

import pytest

from jaxlm.errors import UserError
from jaxlm.reports import Figure, Text, figures, write_report


def test_page_needs_nothing_beside_it(tmp_path):
  svg = figures.curves({"a": ([0, 1], [1.0, 2.0])})
  path = write_report(
    tmp_path / "deep" / "report.html",
    title="A <title>",
    subtitle="below & under",
    sections=[Figure("Loss curve", svg), Text("Words", "said")],
  )
  text = path.read_text(encoding="utf-8")
  assert "<script" not in text and "<link" not in text and "@import" not in text
  links = re.findall(r'(?:src|href)="([^"]*)"', text)
  assert all(link.startswith("#") for link in links)
  assert "A &lt;title&gt;" in text and "below &amp; under" in text
  assert '<section id="loss-curve">' in text
  assert text.index("Loss curve") < text.index("Words")


def test_an_older_report_is_replaced(tmp_path):
  path = tmp_path / "report.html"
  write_report(path, title="first", sections=[])
  write_report(path, title="second", sections=[])
  assert "second" in path.read_text() and "first" not in path.read_text()


@pytest.mark.parametrize("is_folder", [False, True])
def test_another_file_is_not_overwritten(tmp_path, is_folder):
  path = tmp_path / "report.html"
  path.mkdir() if is_folder else path.write_text("<html>mine</html>")
  with pytest.raises(UserError, match=r"report\.html.*not overwritten"):
    write_report(path, title="t", sections=[])


def test_halves_stand_beside_each_other(tmp_path):
  svg = figures.curves({"a": ([0, 1], [1.0, 2.0])}, half=True)
  path = write_report(
    tmp_path / "r.html", title="t", sections=[Figure("x", svg, half=True)]
  )
  assert '<section id="x" class="half">' in path.read_text(encoding="utf-8")
