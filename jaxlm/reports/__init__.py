"""Reports: one self-contained HTML page for people, and tables everywhere.

`write_report` takes a title and sections; `run_report` makes the page of a
training run from its workdir.
"""

from jaxlm.reports.page import write_report
from jaxlm.reports.run import run_report
from jaxlm.reports.sections import (
  Example,
  Examples,
  Facts,
  Figure,
  Listing,
  Table,
  Text,
  table,
)

__all__ = [
  "Example",
  "Examples",
  "Facts",
  "Figure",
  "Listing",
  "Table",
  "Text",
  "run_report",
  "table",
  "write_report",
]
