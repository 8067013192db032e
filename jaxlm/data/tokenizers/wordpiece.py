"""WordPiece, as BERT uses it.

Source: Schuster and Nakajima, "Japanese and Korean voice search", 2012; Devlin
et al., arXiv:1810.04805. The pieces are merged by frequency as BPE does, which
is what the `tokenizers` library trains. Unlike BERT's own normaliser, joiners
survive, and a lower-cased vocabulary keeps its marks unless told otherwise.
"""

import dataclasses
import re
import unicodedata

import tokenizers as library
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from jaxlm.data.tokenizers import (
  _normalizing,
  _sampling,
  _training,
  tokenizers,
)

# Thai, Lao and others put no spaces between words; longer ones are unknown.
_LONGEST = 400

# Ideographs are words of one character each.
_IDEOGRAPHS = "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]"
_IDEOGRAPH = re.compile(_IDEOGRAPHS)


@tokenizers.register(
  "wordpiece",
  paper="arXiv:1810.04805",
  example={"vocab_size": 32768},
)
@dataclasses.dataclass(frozen=True)
class WordPiece(_training.Trained):
  """Pieces of words split at white space and punctuation.

  Attributes:
    min_frequency: how often a pair must occur to be merged.

  Characters beyond the most frequent quarter of `vocab_size` are unknown.
  """

  min_frequency: int = 2

  def _fit(self, lines):
    made = library.Tokenizer(models.WordPiece(unk_token=self.specials["unk"]))
    split_words(made, self, lines)
    letters = self._letters(made.normalizer, lines)
    alphabet = [c for c in letters if len(c) == 1]
    trainer = trainers.WordPieceTrainer(
      vocab_size=self.vocab_size,
      min_frequency=self.min_frequency,
      # The library numbers the letters inside words in the order of a hash
      # map and breaks ties by number: numbered beforehand, all is fixed. It
      # would also choose by that order which rare characters to add to these.
      special_tokens=[*dict.fromkeys(self.specials.values()), *letters],
      limit_alphabet=len(alphabet),
      initial_alphabet=alphabet,
      show_progress=False,
    )
    made.train_from_iterator(lines, trainer, length=len(lines))
    return self._finished(made).to_str()

  def _letters(self, normalizer, lines) -> list[str]:
    """Characters that begin words, and those that go on with "##"."""
    normal = map(normalizer.normalize_str, lines)
    first = _sampling.characters(normal, self.vocab_size // 4)
    letters = first + [f"##{c}" for c in first if not _stands_alone(c)]
    specials = len(set(self.specials.values()))
    _training.room(
      self.vocab_size,
      specials + len(letters),
      f"{specials} special tokens and {len(letters)} characters",
    )
    return letters

  def _finished(self, trained) -> library.Tokenizer:
    """The pipeline with the trained pieces and only true special tokens."""
    made = library.Tokenizer(
      models.WordPiece(
        trained.get_vocab(True),
        unk_token=self.specials["unk"],
        max_input_chars_per_word=_LONGEST,
      )
    )
    made.normalizer = trained.normalizer
    made.pre_tokenizer = trained.pre_tokenizer
    made.decoder = decoders.WordPiece(cleanup=False)
    made.add_special_tokens(_training.special_tokens(self.specials))
    _training.bracket(made, self.template, self.specials)
    return made


def split_words(made: library.Tokenizer, fields, lines) -> None:
  """Gives a pipeline what cuts text into words; pieces come afterwards.

  Args:
    made: the pipeline.
    fields: a `_training.Trained`, for its Unicode form and case.
    lines: the text, of which it matters whether it has ideographs.
  """
  made.normalizer = normalizers.Sequence(
    [
      *_normalizing.cleaning(),
      *_normalizing.zero_width_spaces(),
      *_normalizing.unicode_form(
        fields.normalization, fields.lowercase, fields.strip_accents
      ),
    ]
  )
  made.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.WhitespaceSplit(),
      pre_tokenizers.Punctuation("isolated"),
      *_ideographs_apart(lines),
    ]
  )


def _ideographs_apart(lines) -> list:
  """The split at ideographs, for text that has any: it takes its time."""
  if not any(map(_IDEOGRAPH.search, lines)):
    return []
  return [pre_tokenizers.Split(library.Regex(_IDEOGRAPHS), "isolated")]


def _stands_alone(character: str) -> bool:
  """Whether the split above makes the character a word of its own."""
  return bool(
    unicodedata.category(character).startswith("P")
    or (character.isascii() and not character.isalnum())
    or _IDEOGRAPH.match(character)
  )
