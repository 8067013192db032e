"""Tell devices, versions, memory, disk and which attention path will run."""

from jaxlm import doctor
from jaxlm.commands import _cli


def main(argv):
  """Prints the diagnosis."""
  parser = _cli.parser("doctor", __doc__)
  parser.add_argument("--workdir", default=".", help="whose disk is looked at")
  print(doctor.examine(_cli.parse(parser, argv).workdir))
