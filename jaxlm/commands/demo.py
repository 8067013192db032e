"""Run the main job on text that this Python carries, in about five minutes.

Trains a vocabulary and a small encoder, shows what it learned, fine-tunes it,
exports it and writes WORKDIR/report.html. Run again, it goes on where it was.
"""

from jaxlm.commands import _cli
from jaxlm.demo.run import demo


def main(argv):
  """Runs the demo."""
  parser = _cli.parser("demo", __doc__)
  parser.add_argument("--workdir", default="runs/demo", help="where it works")
  demo(_cli.parse(parser, argv).workdir)
