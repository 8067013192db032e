"""Make the vocabulary and the packed cache of a config, and stop there.

  jaxlm prepare --config=mosaicbert:small --config.data.files='corpus/*.txt' \\
      --workdir=runs/mine

What exists and fits its inputs (by their hashes) is kept, and said so.
"""

from jaxlm import run
from jaxlm.commands import _cli


def main(argv):
  """Makes what `jaxlm train` would make before its first step."""
  parser = _cli.parser("prepare", __doc__)
  _cli.add_config(parser)
  parser.add_argument("--workdir", required=True, help="where all results go")
  args = _cli.parse(parser, argv)
  for name, value in run.prepare_data(args.config, args.workdir).facts.items():
    print(f"{name}: {value}")
