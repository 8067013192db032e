"""Measure a trained model on its task, on held-out text, or on pairs.

  jaxlm evaluate --checkpoint=runs/task --files=dev.tsv
  jaxlm evaluate --checkpoint=runs/mine --pairs=blimp/*.jsonl

With --files, a fine-tuned model is measured on labelled rows read as in its
config. With --pairs, a language model is asked which sentence of a pair it
prefers (JSON lines with `sentence_good` and `sentence_bad`, as BLiMP's, plain
or .gz): by log-likelihood where it reads from left to right, by
pseudo-log-likelihood where it fills masks. The accuracy is the mean over
paradigms, which `by_uid` lists.
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
  args = _cli.parse(parser, argv)
  if bool(args.files) == bool(args.pairs):
    raise errors.UserError("jaxlm evaluate needs --files or --pairs.")
  out = args.out or None
  if args.files:
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
