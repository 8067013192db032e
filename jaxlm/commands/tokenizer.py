"""Train or load the vocabulary of a config and report how well it fits.

  jaxlm tokenizer --config=mosaicbert:small \\
      --config.data.files='corpus/*.txt' --workdir=runs/mine
"""

from jaxlm import configuration
from jaxlm.commands import _cli
from jaxlm.data import datasets
from jaxlm.training import workdir


def main(argv):
  """Makes WORKDIR/tokenizer where it is missing."""
  parser = _cli.parser("tokenizer", __doc__)
  _cli.add_config(parser)
  parser.add_argument("--workdir", required=True, help="where all results go")
  args = _cli.parse(parser, argv)
  config = configuration.complete(args.config)
  workdir.check(args.workdir, config)
  data = datasets.build(config["data"])
  for name, value in data.tokenizer_report(
    tokenizer=config["tokenizer"], workdir=args.workdir, seed=config["seed"]
  ).items():
    print(f"{name}: {value}")
