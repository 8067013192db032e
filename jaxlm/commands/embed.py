"""Write vectors of sentences.

  jaxlm embed --checkpoint=runs/simcse --files=sentences.txt --out=vectors.npy
  jaxlm embed --checkpoint=runs/bert --pooling=first_last ...

One sentence a line, or a --column of TSV, CSV or JSONL files; row i of the
array is the i-th sentence. The model's own head embeds, or a pooling: cls,
mean, first_last, top2.
"""

from jaxlm import loading
from jaxlm.commands import _cli
from jaxlm.evaluation import embed


def main(argv):
  """Embeds the sentences and writes the array."""
  parser = _cli.parser("embed", __doc__)
  _cli.add_checkpoint(parser)
  parser.add_argument("--files", required=True, help="files of sentences")
  parser.add_argument("--column", default="", help="column or field of texts")
  parser.add_argument("--out", required=True, help="a new .npy file")
  parser.add_argument("--pooling", default="", help="in place of the head")
  parser.add_argument(
    "--length", type=int, default=0, help="tokens of a text; 0: all positions"
  )
  args = _cli.parse(parser, argv)
  embed.check_free(args.out)
  texts = embed.sentences(args.files, args.column)
  found = embed.embed(
    loading.load(args.checkpoint),
    texts,
    pooling=args.pooling,
    length=args.length,
  )
  embed.write(args.out, found.vectors)
  rows, width = found.vectors.shape
  cut = f"; {found.cut:,} were cut" if found.cut else ""
  print(f"{args.out}: {rows:,} vectors of {width}{cut}.")
