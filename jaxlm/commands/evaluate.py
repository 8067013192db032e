"""Measure a trained model on its task, on pairs, or by nearest words.

  jaxlm evaluate --checkpoint=runs/task --files=dev.tsv
  jaxlm evaluate --checkpoint=runs/mine --pairs=blimp/*.jsonl
  jaxlm evaluate --checkpoint=runs/elmo_c --neighbours

With --files, a fine-tuned model is measured on labelled rows read as in its
config. With --pairs, a language model is asked which sentence of a pair it
prefers (JSON lines with `sentence_good` and `sentence_bad`, as BLiMP's, plain
or .gz): by log-likelihood where it reads from left to right, by
pseudo-log-likelihood where it fills masks. The accuracy is the mean over
paradigms, which `by_uid` lists. With --neighbours, a model of continuous
outputs tells how often the right word is among the nearest, on what its run
held out.
"""

import json

from jaxlm import errors, loading, run
from jaxlm.commands import _cli
from jaxlm.evaluation.minimal_pairs import pairs


def main(argv):
  """Prints metrics as JSON lines."""
  parser = _cli.parser("evaluate", __doc__)
  _cli.add_checkpoint(parser)
  parser.add_argument("--files", default="", help="labelled files")
  parser.add_argument("--pairs", default="", help="files of minimal pairs")
  parser.add_argument(
    "--most", type=int, default=0, help="pairs of a paradigm; 0: all"
  )
  parser.add_argument(
    "--reduction", default="sum", help="of a sentence's tokens: sum or mean"
  )
  parser.add_argument(
    "--variant",
    default="original",
    help="masked models: original, within_word_l2r or whole_word",
  )
  parser.add_argument("--out", default="", help="a file for the predictions")
  parser.add_argument(
    "--neighbours", action="store_true", help="judge continuous outputs"
  )
  args = _cli.parse(parser, argv)
  if bool(args.files) + bool(args.pairs) + args.neighbours != 1:
    raise errors.UserError(
      "jaxlm evaluate needs one of --files, --pairs and --neighbours."
    )
  out = args.out or None
  if args.neighbours:
    result = run.neighbours(args.checkpoint, report=lambda line: None)
  elif args.files:
    result = run.evaluate(args.checkpoint, args.files, out=out)
  else:
    result = pairs(
      loading.load(args.checkpoint),
      args.pairs,
      variant=args.variant,
      reduction=args.reduction,
      most=args.most,
      out=out,
    )
  print(json.dumps(result, sort_keys=True))
