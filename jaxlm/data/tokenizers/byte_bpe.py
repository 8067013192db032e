"""Byte-level byte-pair encoding, as GPT-2 and RoBERTa use it.

Source: Sennrich et al., arXiv:1508.07909; Radford et al., "Language models are
unsupervised multitask learners", 2019. GPT-2 splits words where no letter
stands, so that Indic vowel signs, which are marks, cut every word; here marks
and joiners are part of a word.
"""

import dataclasses

import tokenizers as library
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from jaxlm.data.tokenizers import _normalizing, _training, tokenizers

_WORD = r"\p{L}\p{M}\x{200c}\x{200d}"
_SPLIT = (
  rf"'s|'t|'re|'ve|'m|'ll|'d| ?[{_WORD}]+| ?\p{{N}}+"
  rf"| ?[^\s\p{{N}}{_WORD}]+|\s+(?!\S)|\s+"
)


@tokenizers.register(
  "byte_bpe",
  paper="arXiv:1508.07909",
  example={"vocab_size": 50265},
)
@dataclasses.dataclass(frozen=True)
class ByteBPE(_training.Trained):
  """Pairs of bytes merged by frequency; nothing is ever unknown.

  Attributes:
    min_frequency: how often a pair must occur to be merged.
  """

  template: str = "roberta"
  min_frequency: int = 2

  def _fit(self, lines):
    made = library.Tokenizer(models.BPE())
    made.normalizer = normalizers.Sequence(
      _normalizing.unicode_form(
        self.normalization, self.lowercase, self.strip_accents
      )
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
      [
        pre_tokenizers.Split(library.Regex(_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
      ]
    )
    made.decoder = decoders.ByteLevel()
    specials = _training.special_tokens(self.specials)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    _training.room(
      self.vocab_size,
      len(specials) + len(letters),
      f"{len(specials)} special tokens and 256 bytes",
    )
    trainer = trainers.BpeTrainer(
      vocab_size=self.vocab_size,
      min_frequency=self.min_frequency,
      special_tokens=specials,
      initial_alphabet=letters,
      show_progress=False,
    )
    made.train_from_iterator(lines, trainer, length=len(lines))
    _training.bracket(made, self.template, self.specials)
    return made.to_str()
