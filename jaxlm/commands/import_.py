"""Turn a Hugging Face folder into a workdir that jaxlm can start from.

jaxlm import --from=bert-base-uncased/ --out=runs/bert
"""

from jaxlm import run
from jaxlm.commands import _cli


def main(argv):
  """Reads --from and writes --out."""
  parser = _cli.parser("import", __doc__)
  parser.add_argument(
    "--from", dest="source", required=True, help="Hugging Face folder"
  )
  parser.add_argument("--out", required=True, help="a new folder")
  args = _cli.parse(parser, argv)
  print(run.import_folder(args.source, args.out))
