"""Measure a trained model on its task, on held-out text, or on pairs.

  jaxlm evaluate --checkpoint=runs/task --files=dev.tsv
  jaxlm evaluate --checkpoint=runs/mine --pairs=blimp/*.jsonl

With --files, a fine-tuned model is measured on labelled rows read as in its
config. With --pairs, a language model is asked which sentence of a pair it
prefers (JSON lines with `sentence_good` and `sentence_bad`).
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
  parser.add_argument("--out", default="", help="a file for the predictions")
  args = _cli.parse(parser, argv)
  if bool(args.files) == bool(args.pairs):
    raise errors.UserError("jaxlm evaluate needs --files or --pairs.")
  out = args.out or None
  if args.files:
    result = run.evaluate(args.checkpoint, args.files, out=out)
  else:
    result = pairs(loading.load(args.checkpoint), args.pairs, out=out)
  print(json.dumps(result, sort_keys=True))
