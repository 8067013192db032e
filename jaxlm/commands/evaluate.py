"""Measure a trained model on its task, pairs, similar sentences or words.

  jaxlm evaluate --checkpoint=runs/task --files=dev.tsv
  jaxlm evaluate --checkpoint=runs/mine --pairs=blimp/*.jsonl
  jaxlm evaluate --checkpoint=runs/simcse --sts=stsb.tsv
  jaxlm evaluate --checkpoint=runs/elmo_c --neighbours

With --files, a fine-tuned model is measured on labelled rows read as in its
config. With --pairs, a language model is asked which sentence of a pair it
prefers (JSON lines with `sentence_good` and `sentence_bad`, as BLiMP's, plain
or .gz): by log-likelihood where it reads from left to right, by
pseudo-log-likelihood where it fills masks. The accuracy is the mean over
paradigms, which `by_uid` lists. With --sts, cosines of vectors are held
against people's scores (--columns), by the model's own head or by --pooling
(cls, mean, first_last, top2), as they are or through a --map (whitening,
flow). With --neighbours, a model of continuous outputs tells how often the
right word is among the nearest, on what its run held out.
"""

import json

from jaxlm import errors, loading, run
from jaxlm.commands import _cli
from jaxlm.evaluation import similarity
from jaxlm.evaluation.minimal_pairs import pairs


def main(argv):
  """Prints metrics as JSON lines."""
  args = _arguments(argv)
  wanted = [args.files, args.pairs, args.sts, args.neighbours]
  if sum(map(bool, wanted)) != 1:
    raise errors.UserError(
      "jaxlm evaluate needs one of --files, --pairs, --sts and --neighbours."
    )
  print(json.dumps(_evaluate(args, args.out or None), sort_keys=True))


def _arguments(argv):
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
  parser.add_argument("--sts", default="", help="files of scored pairs")
  parser.add_argument(
    "--columns", default=",".join(similarity.COLUMNS), help="of --sts"
  )
  parser.add_argument("--pooling", default="", help="of --sts, or the head")
  parser.add_argument("--length", type=int, default=0, help="tokens of a text")
  parser.add_argument("--map", default="", help="of --sts: whitening or flow")
  parser.add_argument(
    "--keep", type=int, default=0, help="directions left by whitening; 0: all"
  )
  parser.add_argument(
    "--neighbours", action="store_true", help="judge continuous outputs"
  )
  parser.add_argument("--out", default="", help="a file for the predictions")
  return _cli.parse(parser, argv)


def _evaluate(args, out):
  if args.neighbours:
    return run.neighbours(args.checkpoint, report=lambda line: None)
  if args.files:
    return run.evaluate(args.checkpoint, args.files, out=out)
  loaded = loading.load(args.checkpoint)
  if args.pairs:
    return pairs(
      loaded,
      args.pairs,
      variant=args.variant,
      reduction=args.reduction,
      most=args.most,
      out=out,
    )
  return similarity.evaluate(
    loaded,
    args.sts,
    columns=args.columns.split(","),
    pooling=args.pooling,
    length=args.length,
    map=args.map,
    keep=args.keep,
    out=out,
  )
