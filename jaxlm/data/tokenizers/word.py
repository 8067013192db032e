"""Whole words, the most frequent ones first.

What large output layers are about: ids fall in frequency, as sampled and
adaptive softmaxes need, and every id is a word, whose vector can be looked up.
"""

import dataclasses

import tokenizers as library
from tokenizers import models, trainers

from jaxlm.data.tokenizers import _training, tokenizers, wordpiece


@tokenizers.register("word", paper="own", example={"vocab_size": 100_000})
@dataclasses.dataclass(frozen=True)
class Word(_training.Trained):
  """Words split at white space and punctuation; others are unknown.

  Behind the special tokens ids go by falling count, then by the alphabet.

  Attributes:
    min_frequency: how often a word must occur to be known.
  """

  min_frequency: int = 1

  def _fit(self, lines):
    made = library.Tokenizer(models.WordLevel(unk_token=self.specials["unk"]))
    wordpiece.split_words(made, self, lines)
    specials = _training.special_tokens(self.specials)
    _training.room(
      self.vocab_size, len(specials), f"{len(specials)} special tokens"
    )
    trainer = trainers.WordLevelTrainer(
      vocab_size=self.vocab_size,
      min_frequency=self.min_frequency,
      special_tokens=specials,
      show_progress=False,
    )
    made.train_from_iterator(lines, trainer, length=len(lines))
    _training.bracket(made, self.template, self.specials)
    return made.to_str()
