"""How well vocabularies fit a language: one's own against published ones.

  python -m benchmarks.vocabularies --train=dev.ne.gz --test=devtest.ne.gz \
      --published=vocabularies/

Own vocabularies are trained on samples of `--train`, one a seed, and measured
on `--test`: tokens a word (fertility), the share of tokens that are unknown,
the share of combining marks that stay, and of sentences that come back from
their ids as normalised. `bert_uncased` and `gpt2_split` are trained alike, but
normalise and cut as those models do. Published ones are whatever
`Tokenizer.load` reads below `--published`. The last column is what jaxlm says
before it trains on such text.
"""

import argparse
import pathlib
import re
import statistics

import tokenizers as library
from tokenizers import (
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  trainers,
)

from jaxlm import errors
from jaxlm.data import sources, tokenizers
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.data.tokenizers import (
  _fitting,
  _sampling,
  _training,
  reporting,
)

CARELESS = ("bert_uncased", "gpt2_split")
_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")


def own(kind: str, size: int, lines, seed: int, share: float) -> Tokenizer:
  """A vocabulary trained on a sample of lines."""
  most = int(share * len(lines))
  if kind in CARELESS:
    some, _ = _sampling.sample(lines, seed, most, 10**9)
    return careless(kind, size, some)
  spec = dict(kind=kind, vocab_size=size, sample_lines=most)
  return tokenizers.train(spec, lines, seed)


def careless(kind: str, size: int, lines) -> Tokenizer:
  """Trained on the lines with what BERT or GPT-2 do to them first."""
  template = dict(bert_uncased="bert", gpt2_split="gpt2")[kind]
  specials = _training.SPECIALS[template]
  most = dict(
    vocab_size=size,
    special_tokens=_training.special_tokens(specials),
    show_progress=False,
  )
  if kind == "gpt2_split":
    made = library.Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(initial_alphabet=letters, **most)
  else:
    made = library.Tokenizer(models.WordPiece(unk_token=specials["unk"]))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(**most)
  made.train_from_iterator(lines, trainer, length=len(lines))
  return Tokenizer(made.to_str(), specials)


def measured(tokenizer: Tokenizer, lines) -> dict[str, float]:
  """Fertility, unknown and kept marks, on lines."""
  found = reporting.report(tokenizer, lines)
  return {name: found[name] for name in (*reporting.FIT, "round_trips")}


def verdict(tokenizer: Tokenizer, lines) -> str:
  """What jaxlm says of this vocabulary before it trains on the lines."""
  told = []
  try:
    _fitting.check(tokenizer, lines, told.append)
  except errors.UserError as error:
    return "refused: " + str(error).partition(": ")[2].partition(" (")[0]
  told = [line.removeprefix("Vocabulary: ") for line in told]
  return "; ".join(re.split(": |, and |, such ", line)[0] for line in told)


def published(folder: str) -> dict[str, pathlib.Path]:
  """name of its folder -> the file of each vocabulary."""
  found = {}
  for path in sorted(pathlib.Path(folder).rglob("*")):
    if path.name in _FILES and path.parent.name not in found:
      found[path.parent.name] = path
  return found


def row(name, size, runs, said="") -> str:
  """A line of the table; mean and spread over runs."""
  cells = [name, f"{size:,}"]
  for key, form in (
    ("tokens_per_word", "{:.3f}"),
    ("bytes_per_token", "{:.2f}"),
    ("unknown_rate", "{:.3%}"),
    ("marks_kept", "{:.1%}"),
    ("round_trips", "{:.1%}"),
  ):
    values = [run[key] for run in runs]
    text = form.format(statistics.fmean(values))
    if len(values) > 1:
      text += f" ± {form.format(statistics.stdev(values))}"
    cells.append(text)
  return f"| {' | '.join([*cells, said or '-'])} |"


def read(path: str) -> list[str]:
  """The lines of a file, one sentence each, with single spaces.

  News pages hold thousands of spaces in a row, which byte-level pieces spell
  out: they would be all that is measured.
  """
  lines = sources.documents(path, documents="line")
  return [" ".join(line.split()) for line in lines]


def main(argv=None) -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--train", required=True, help="a sentence a line")
  parser.add_argument("--test", required=True, help="a sentence a line")
  parser.add_argument("--published", default="", help="a folder")
  parser.add_argument(
    "--kinds",
    default=",".join(["wordpiece", "byte_bpe", "unigram", *CARELESS]),
    help="of one's own vocabularies",
  )
  parser.add_argument("--sizes", default="2000,8000")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--share", type=float, default=0.8, help="of lines")
  args = parser.parse_args(argv)
  train, test = read(args.train), read(args.test)
  head = ["vocabulary", "pieces", "tokens/word", "bytes/token", "unknown"]
  head += ["marks kept", "round trips", "before training, jaxlm says"]
  print(f"| {' | '.join(head)} |")
  print("|---" * len(head) + "|")
  for kind in args.kinds.split(","):
    for size in map(int, args.sizes.split(",")):
      made = [
        own(kind, size, train, seed, args.share) for seed in range(args.seeds)
      ]
      runs = [measured(one, test) for one in made]
      print(row(kind, made[0].vocab_size, runs, verdict(made[0], test)))
  for name, path in published(args.published).items() if args.published else ():
    one = Tokenizer.load(path)
    said = verdict(one, test)
    print(row(name, one.vocab_size, [measured(one, test)], said))


if __name__ == "__main__":
  main()
