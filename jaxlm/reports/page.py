"""The page: sections in one HTML file that needs nothing beside it."""

import datetime
import html
import pathlib
import re
from collections.abc import Sequence

import jaxlm
from jaxlm import errors, files
from jaxlm.reports.sections import Section
from jaxlm.reports.style import STYLE

_GENERATOR = '<meta name="generator" content="jaxlm'


def write_report(
  path, *, title: str, sections: Sequence[Section], subtitle: str = ""
) -> pathlib.Path:
  """Writes a report as one self-contained HTML file, atomically.

  No script, no network, no other file: it can be mailed and printed, and it
  follows the reader's choice of light or dark. A report is derived from a
  run's records, so an older report at `path` is replaced; any other file is
  not.

  Args:
    path: the HTML file, such as `workdir/report.html`.
    title: the heading.
    sections: parts of `sections.py`, in order.
    subtitle: a sentence below the heading.

  Returns:
    The path.

  Raises:
    UserError: `path` holds a file that is no report of jaxlm.
  """
  path = pathlib.Path(path)
  _refuse_foreign(path)
  with files.replacing(path) as file:
    file.write(page(title=title, sections=sections, subtitle=subtitle))
  return path


def page(*, title: str, sections: Sequence[Section], subtitle: str = "") -> str:
  """The text of the page."""
  below = f"<p>{html.escape(subtitle)}</p>" if subtitle else ""
  body = "\n".join(_section(section) for section in sections)
  written = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
  return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{_GENERATOR} {jaxlm.__version__}">
<title>{html.escape(title)}</title>
<style>
{STYLE}</style>
</head>
<body>
<header><h1>{html.escape(title)}</h1>{below}</header>
<main>
{body}
</main>
<footer>Written by jaxlm {jaxlm.__version__} on {written}.</footer>
</body>
</html>
"""


def _section(section: Section) -> str:
  heading = f"<h2>{html.escape(section.title)}</h2>" if section.title else ""
  name = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")
  anchor = f' id="{name}"' if name else ""
  half = ' class="half"' if getattr(section, "half", False) else ""
  return f"<section{anchor}{half}>{heading}{section.html()}</section>"


def _refuse_foreign(path: pathlib.Path) -> None:
  if not path.exists():
    return
  head = path.read_bytes()[:4096] if path.is_file() else b""
  if _GENERATOR.encode() not in head:
    raise errors.UserError(
      f"'{path}' is already there and is no report of jaxlm, so it is not "
      "overwritten. Move it away or name another file."
    )
