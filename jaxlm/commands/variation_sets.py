"""Find variation sets in transcripts, or make them by rules.

  jaxlm variation-sets --files=childes.txt --out=sets.jsonl
  jaxlm variation-sets --files=childes.txt --most=1000 --out=sets.jsonl \\
      --sets="dict(kind='rules', size=4)"

A document of the files is a transcript, each of its lines an utterance. The
file of JSON lines is what config.data.sets=dict(kind='file', path=...) reads.
Printed is how much of the text stands in sets.
"""

import itertools
import json

import numpy as np

from jaxlm import errors, files
from jaxlm.commands import _cli
from jaxlm.configuration import literal
from jaxlm.data import sources
from jaxlm.data.variation import file, reporting, variations
from jaxlm.data.variation_sets import utterances_of


def main(argv):
  """Reads the files, and writes sets where --out is given."""
  parser = _cli.parser("variation-sets", __doc__)
  parser.add_argument("--files", required=True, help="as config.data.files")
  parser.add_argument("--out", default="", help="the file to write")
  parser.add_argument(
    "--sets", default="dict(kind='natural')", help="as config.data.sets"
  )
  parser.add_argument("--most", type=int, default=0, help="sets; 0: all")
  parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
  parser.add_argument("--format", default="auto", help="as config.data.format")
  parser.add_argument("--field", default="text", help="as config.data.field")
  parser.add_argument(
    "--documents", default="blank_line", help="as config.data.documents"
  )
  args = _cli.parse(parser, argv)
  transcripts = _transcripts(args)
  made = _source(args.sets).sets(transcripts, np.random.default_rng(args.seed))
  found = list(itertools.islice(made, args.most or None))
  if args.out:
    with files.replacing(args.out) as out:
      out.writelines(line + "\n" for line in file.lines(found))
  print(json.dumps(reporting.report(transcripts, found)))


def _transcripts(args) -> list[list[str]]:
  texts = sources.documents(
    args.files, format=args.format, field=args.field, documents=args.documents
  )
  return [utterances_of(text) for text in texts]


def _source(text: str):
  spec = literal(text)
  if not isinstance(spec, dict):
    raise errors.UserError(
      f"--sets is {text!r}; expected a part such as dict(kind='natural')."
    )
  return variations.build(spec)
