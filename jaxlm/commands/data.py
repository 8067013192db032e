"""Show the batch of a step as text.

  jaxlm data --config=mosaicbert:small --config.data.files='corpus/*.txt' \\
      --workdir=runs/mine --step=1000
"""

from jaxlm import configuration, run
from jaxlm.commands import _cli
from jaxlm.data.prepared import describe


def main(argv):
  """Prints rows of the batch that training would see at --step."""
  parser = _cli.parser("data", __doc__)
  _cli.add_config(parser)
  parser.add_argument("--workdir", required=True, help="where all results go")
  parser.add_argument("--step", type=int, default=0, help="which batch")
  parser.add_argument("--rows", type=int, default=4, help="rows to show")
  args = _cli.parse(parser, argv)
  prepared = run.prepare_data(args.config, args.workdir)
  seed = configuration.complete(args.config)["seed"]
  batch = prepared.train.batch_at(seed, args.step)
  print(describe(batch, prepared.tokenizer, rows=args.rows))
