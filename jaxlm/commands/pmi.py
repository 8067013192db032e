"""Find the words that belong together, for PMI masking.

  jaxlm pmi --files='corpus/*.txt' --out=pmi.tsv

Then train with --config.data.corruption.unit.kind=pmi and
--config.data.corruption.unit.vocabulary=pmi.tsv. The file is text: a run of
words, how often it occurs, its score.
"""

from jaxlm.commands import _cli
from jaxlm.data import pmi, sources


def main(argv):
  """Counts the files and writes the vocabulary."""
  parser = _cli.parser("pmi", __doc__)
  parser.add_argument("--files", required=True, help="as config.data.files")
  parser.add_argument("--out", required=True, help="the file to write")
  parser.add_argument("--format", default="auto", help="as config.data.format")
  parser.add_argument("--field", default="text", help="as config.data.field")
  parser.add_argument(
    "--documents", default="blank_line", help="as config.data.documents"
  )
  parser.add_argument(
    "--size", type=int, default=0, help="runs to list; 0: by --coverage"
  )
  parser.add_argument(
    "--coverage", type=float, default=0.5, help="share of words in some run"
  )
  parser.add_argument(
    "--min_count", type=int, default=11, help="leave out rarer runs"
  )
  args = _cli.parse(parser, argv)
  found = sources.fingerprint(args.files)
  made = pmi.build(
    sources.documents(
      args.files,
      format=args.format,
      field=args.field,
      documents=args.documents,
    ),
    size=args.size,
    coverage=args.coverage,
    min_count=args.min_count,
  )
  corpus = {f["name"]: f"sha256 {f['sha256']}" for f in found}
  made = made._replace(facts={**corpus, **made.facts})
  pmi.write(made, args.out)
  print(
    f"{args.out}: {len(made.runs):,} runs of 2 to 5 words, which cover "
    f"{made.facts['coverage']:.1%} of words. The first: "
    f"{', '.join(repr(r.text) for r in made.runs[:5])}."
  )
