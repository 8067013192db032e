"""Write a Hugging Face folder from a workdir.

jaxlm export --checkpoint=runs/mine --out=hf/mine
"""

from jaxlm import run
from jaxlm.commands import _cli


def main(argv):
  """Exports, and prints the largest difference of logits after reloading."""
  parser = _cli.parser("export", __doc__)
  parser.add_argument("--checkpoint", required=True, help="workdir")
  parser.add_argument("--out", required=True, help="a new folder")
  args = _cli.parse(parser, argv)
  for name, value in run.export(args.checkpoint, args.out).items():
    print(f"{name}: {value}")
