"""Write docs/methods.md from the registries.

jaxlm methods --out=docs/methods.md
"""

from jaxlm.commands import _cli
from jaxlm.reports.methods import write


def main(argv):
  """Writes the table."""
  parser = _cli.parser("methods", __doc__)
  parser.add_argument("--out", required=True, help="a Markdown file")
  print(write(_cli.parse(parser, argv).out))
