"""Show the batch of a step as text, or measure what batches hold.

  jaxlm data --config=mosaicbert:small --config.data.files='corpus/*.txt' \\
      --workdir=runs/mine --step=1000

Of each document it prints what the model reads; where that is not the text,
the text too; what is hidden, predicted, reworded or to be written; labels,
tags and notes; and rates of that batch.

With --stats it prints realised rates over some batches: how much of the text
is corrupted, masked and predicted, or reworded, how full rows are, shares of
sources, labels and tags, unknown tokens, and how many tokens a word takes.
"""

from jaxlm import configuration, run
from jaxlm.commands import _cli
from jaxlm.data import datasets, statistics
from jaxlm.data.prepared import describe, text_of


def main(argv):
  """Prints rows of the batch that training would see at --step."""
  parser = _cli.parser("data", __doc__)
  _cli.add_config(parser)
  parser.add_argument("--workdir", required=True, help="where all results go")
  parser.add_argument("--step", type=int, default=0, help="which batch")
  parser.add_argument("--rows", type=int, default=4, help="rows to show")
  parser.add_argument(
    "--stats",
    type=int,
    nargs="?",
    const=16,
    default=0,
    metavar="BATCHES",
    help="measure so many batches (16)",
  )
  args = _cli.parse(parser, argv)
  prepared = run.prepare_data(args.config, args.workdir)
  config = configuration.complete(args.config)
  if args.stats:
    print("\n".join(_measured(config, prepared, args)))
    return
  print(_shown(config, prepared, args))


def _shown(config, prepared, args) -> str:
  """Rows of a batch, beside the text that they were made of."""
  task, seed = prepared.train, config["seed"]
  batch = task.batch_at(seed, args.step)
  return describe(
    batch,
    prepared.tokenizer,
    rows=args.rows,
    text=text_of(task, seed, args.step, batch),
    classes=prepared.label_names,
  )


def _measured(config, prepared, args) -> list[str]:
  """Lines on the first batches, and on the vocabulary."""
  seed = config["seed"]
  found = statistics.measure(prepared, seed=seed, steps=args.stats)
  fits = datasets.build(config["data"]).tokenizer_report(
    tokenizer=prepared.tokenizer, workdir=args.workdir, seed=seed
  )
  lines = [line for part in found.values() for line in part.lines()]
  return [*lines, *statistics.fit(fits)]
