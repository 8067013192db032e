"""Train: raw files to a trained, evaluated and exported model.

  jaxlm train --config=mosaicbert:small --config.data.files='corpus/*.txt' \\
      --workdir=runs/mine

Makes the vocabulary and the packed cache where they are missing, trains (from
the newest checkpoint of the workdir if there is one), evaluates, exports to
WORKDIR/export and writes WORKDIR/report.html.
"""

from jaxlm import run
from jaxlm.commands import _cli


def main(argv):
  """Parses flags and trains."""
  parser = _cli.parser("train", __doc__)
  _cli.add_config(parser)
  parser.add_argument("--workdir", required=True, help="where all results go")
  parser.add_argument(
    "--dry_run",
    action="store_true",
    help="print parameters, shapes, memory and cost; train nothing",
  )
  args = _cli.parse(parser, argv)
  if args.dry_run:
    print(run.dry_run(args.config, args.workdir))
  else:
    run.train(args.config, args.workdir)
