"""Show the batch of a step as text, or measure what batches hold.

  jaxlm data --config=mosaicbert:small --config.data.files='corpus/*.txt' \\
      --workdir=runs/mine --step=1000

With --stats it prints realised rates over some batches: how much of the text
is corrupted, masked and predicted, how full rows are, unknown tokens, and how
many tokens a word takes.
"""

import pathlib

from jaxlm import configuration, errors, run
from jaxlm.commands import _cli
from jaxlm.data import cache, datasets, statistics
from jaxlm.data.packed import Packed
from jaxlm.data.prepared import describe


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
  seed = config["seed"]
  batch = prepared.train.batch_at(seed, args.step)
  print(describe(batch, prepared.tokenizer, rows=args.rows))


def _measured(config, prepared, args) -> list[str]:
  """Lines on the first batches, and on the vocabulary.

  Raises:
    UserError: data that are not one packed text, which have no rates.
  """
  data = datasets.build(config["data"])
  if not isinstance(data, Packed):
    raise errors.UserError(
      f"config.data.kind is '{config['data']['kind']}': --stats measures "
      "packed text of one source. `jaxlm tokenizer` tells how the vocabulary "
      "fits."
    )
  pairs = statistics.training_pairs(
    prepared.train,
    cache.open_cache(pathlib.Path(args.workdir) / "cache"),
    data.corruption,
    length=data.length,
    seed=config["seed"],
    steps=args.stats,
    rows_of=data.rows_of_step,
  )
  copies = prepared.facts.get("copies_of_a_row", 1)
  found = statistics.rates(pairs, prepared.tokenizer, copies)
  fits = data.tokenizer_report(
    tokenizer=prepared.tokenizer, workdir=args.workdir, seed=config["seed"]
  )
  return [
    *found.lines(),
    f"{fits['tokens_per_word']:.3f} tokens a word, {fits['unknown_rate']:.3%} "
    f"unknown, of {fits['words']:,} words ({fits['measured_on']})",
  ]
