"""What all trained vocabularies share: fields, sampling, special tokens."""

import dataclasses
from collections.abc import Iterable, Sequence

import tokenizers as library
from tokenizers import processors

from jaxlm import errors
from jaxlm.data import _foreign, _roles
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.data.tokenizers import _normalizing, _sampling

# Padding is id 0 in every trained vocabulary: seqio asks for it.
SPECIALS = {
  "bert": {
    "pad": "[PAD]",
    "unk": "[UNK]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "mask": "[MASK]",
    "bos": "[CLS]",
    "eos": "[SEP]",
  },
  "roberta": {
    "pad": "<pad>",
    "unk": "<unk>",
    "cls": "<s>",
    "sep": "</s>",
    "mask": "<mask>",
    "bos": "<s>",
    "eos": "</s>",
  },
  "gpt2": {
    "pad": "<pad>",
    "unk": "<unk>",
    "bos": "<|endoftext|>",
    "eos": "<|endoftext|>",
  },
  "t5": {"pad": "<pad>", "unk": "<unk>", "eos": "</s>"},
}


@dataclasses.dataclass(frozen=True)
class Trained:
  """Fields of every kind that is trained.

  Attributes:
    vocab_size: pieces, special tokens included; fewer if the text has fewer.
    path: read the vocabulary from here and train nothing.
    lowercase: fold case.
    strip_accents: drop combining accents, as uncased BERT does. Refused for
      scripts that write vowels so.
    normalization: Unicode form, "nfc", "nfkc" or "none".
    template: special tokens and brackets of "bert", "roberta", "gpt2" or "t5".
    extra: special tokens of one's own, such as the prefixes of UL2; they
      count in `vocab_size`, in front of the sentinels.
    sentinels: tokens <extra_id_0>, <extra_id_1> ... that stand for spans, the
      first with the last id of the vocabulary, as in T5; they count in
      `vocab_size`.
    sample_lines: most lines to train on, drawn uniformly.
    sample_characters: most characters to train on; bounds memory.
  """

  vocab_size: int = 32768
  path: str = ""
  lowercase: bool = False
  strip_accents: bool = False
  normalization: str = "nfc"
  template: str = "bert"
  extra: Sequence[str] = ()
  sentinels: int = 0
  sample_lines: int = 1_000_000
  sample_characters: int = 50_000_000

  def make(self, documents: Iterable[str], seed: int) -> Tokenizer:
    """Trains on documents, or reads `path`."""
    if self.path:
      return Tokenizer.load(self.path)
    self._check()
    lines, counts = _sampling.sample(
      documents, seed, self.sample_lines, self.sample_characters
    )
    if self.strip_accents:
      _normalizing.refuse_if_vowels_are_lost(lines)
    pieces = dataclasses.replace(
      self, vocab_size=self.vocab_size - self.sentinels - len(self.extra)
    )
    text = with_extra(pieces._fit(lines), self.extra)
    text = with_sentinels(text, self.sentinels)
    facts = {
      "trained": {
        **dataclasses.asdict(self),
        "extra": list(self.extra),  # as JSON gives it back
        "seed": seed,
        "counts": counts,
      }
    }
    return Tokenizer(text, self.specials, facts)

  @property
  def specials(self) -> dict[str, str]:
    """role -> token."""
    return SPECIALS[self.template]

  def _fit(self, lines: Sequence[str]) -> str:
    """The text of the tokenizer.json learned from lines."""
    raise NotImplementedError

  def _check(self) -> None:
    for field, known in (
      ("normalization", _normalizing.FORMS),
      ("template", SPECIALS),
    ):
      value = getattr(self, field)
      if value not in known:
        raise errors.unknown(f"tokenizer.{field} cannot be", value, known)
    if isinstance(self.extra, str) or not all(self.extra):
      raise errors.UserError(
        f"tokenizer.extra is {self.extra!r}; expected a tuple of tokens, such "
        "as ('[NLU]',)."
      )
    if not 0 <= self.sentinels < self.vocab_size - len(self.extra):
      raise errors.UserError(
        f"tokenizer.sentinels is {self.sentinels}; it is at least 0 and below "
        f"tokenizer.vocab_size, {self.vocab_size}, less tokenizer.extra."
      )
    for field in ("vocab_size", "sample_lines", "sample_characters"):
      if getattr(self, field) < 1:
        raise errors.UserError(
          f"tokenizer.{field} should be positive, found {getattr(self, field)}."
        )


def with_extra(text: str, tokens: Sequence[str]) -> str:
  """A tokenizer.json with special tokens behind its pieces."""
  if not tokens:
    return text
  made = library.Tokenizer.from_str(text)
  made.add_special_tokens(
    [library.AddedToken(token, special=True) for token in tokens]
  )
  return made.to_str()


def with_sentinels(text: str, count: int) -> str:
  """A tokenizer.json with sentinels behind its pieces, the last one first."""
  if not count:
    return text
  made = library.Tokenizer.from_str(text)
  made.add_special_tokens(
    [
      library.AddedToken(_roles.SENTINEL.format(i), special=True)
      for i in reversed(range(count))
    ]
  )
  return made.to_str()


def special_tokens(specials) -> list[library.AddedToken]:
  """The special tokens in the order of their ids."""
  return [
    # A mask takes the space in front of it: "a <mask>" asks for "Ġword".
    library.AddedToken(token, special=True, lstrip=token == "<mask>")
    for token in dict.fromkeys(specials.values())
  ]


def bracket(made: library.Tokenizer, template: str, specials) -> None:
  """Gives the pipeline the brackets of its template."""
  if template == "gpt2":
    made.post_processor = processors.ByteLevel(trim_offsets=False)
  else:
    vocabulary = made.get_vocab(True)
    made.post_processor = _foreign.brackets(template, specials, vocabulary)


def room(vocab_size: int, needed: int, what: str) -> None:
  """Refuses a vocabulary without room for what it must hold."""
  if vocab_size <= needed:
    raise errors.UserError(
      f"tokenizer.vocab_size={vocab_size} is too small: {what} alone take "
      f"{needed}."
    )
