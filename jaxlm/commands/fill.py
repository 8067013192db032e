"""Fill the masks of a sentence.

jaxlm fill --checkpoint=runs/mine 'The capital of Nepal is [MASK].'
"""

from jaxlm import loading
from jaxlm.commands import _cli
from jaxlm.evaluation.fill import fill


def main(argv):
  """Prints the most likely tokens of every mask."""
  parser = _cli.parser("fill", __doc__)
  _cli.add_checkpoint(parser)
  parser.add_argument("--top", type=int, default=5, help="candidates to show")
  parser.add_argument("text", nargs="+", help="sentences with masks")
  args = _cli.parse(parser, argv)
  loaded = loading.load(args.checkpoint)
  for text, masks in zip(args.text, fill(loaded, args.text, top=args.top)):
    print(text)
    for candidates in masks:
      line = ", ".join(f"{c.token} {c.probability:.1%}" for c in candidates)
      print(f"  {line}")
