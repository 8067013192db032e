"""BART's noise: text infilling, and sentences in another order.

Lewis et al., arXiv:1910.13461, section 2.2; numbers and edge cases as in
fairseq's `denoising_dataset`. The decoder says the whole text again.
"""

import dataclasses
import math

import numpy as np

from jaxlm.data.corruption import _seq2seq, corruptions
from jaxlm.errors import UserError, unknown

_REPLACE = ("one", "none", "each")
_UNITS = ("word", "token")
_RAREST = 1e-7  # where the table of span lengths ends


@corruptions.register("infilling", paper="arXiv:1910.13461")
@dataclasses.dataclass(frozen=True)
class Infilling:
  """Spans of words become one mask each; spans of no words put one in.

  Lengths are Poisson and drawn until they make up the budget, ceil(rate *
  words), the last one cut to it. Spans begin at different words, uniformly;
  where they run into each other they become one. Special tokens stay and end
  a span. One text a row: take the arrangement `blocks`, or one document a
  row. Token masking is mean_span=0, unit="token", replace="each"; token
  deletion is replace="none" in its place.

  Attributes:
    rate: share of words that are hidden.
    mean_span: mean of the spans' lengths in words; 0: single words.
    unit: "word", or "token": each is a word.
    replace: what stands for a span: "one" mask, "none", or "each" token's.
    random: share of masks that are another token instead.
    permute: share of sentences that change places with each other; BART has
      1. Sentences do not leave their document.
    stops: characters that end a sentence; a token that ends in one, quotes
      and brackets aside, closes a sentence. fairseq: "." alone.
    rotate: share of texts that begin anywhere and go on at their beginning.
    start: role of the token that the decoder reads first.
  """

  rate: float = 0.3
  mean_span: float = 3.0
  unit: str = "word"
  replace: str = "one"
  random: float = 0.0
  permute: float = 0.0
  stops: str = ".。．।॥۔።"
  rotate: float = 0.0
  start: str = "eos"
  single_segment = True

  def __post_init__(self):
    _seq2seq.check_share("rate", self.rate)
    for name in ("random", "permute", "rotate"):
      _seq2seq.check_share(name, getattr(self, name), zero=True)
    if not 0 <= self.mean_span <= 64:
      raise UserError(
        f"data.corruption.mean_span is {self.mean_span}; it is from 0 (single "
        "words) to 64."
      )
    for name, known in (("unit", _UNITS), ("replace", _REPLACE)):
      if getattr(self, name) not in known:
        raise unknown(
          f"data.corruption.{name} cannot be", getattr(self, name), known
        )
    if self.permute and not self.stops:
      raise UserError(
        "data.corruption.permute is set, but data.corruption.stops names no "
        "character that ends a sentence."
      )

  @property
  def span_lengths(self) -> np.ndarray:
    """float64 [longest + 1], the chance of a span of 0, 1, ... words."""
    if not self.mean_span:
      return np.array([0.0, 1.0])
    chances = [math.exp(-self.mean_span)]
    # The table goes up to the mode, and then to what is too rare.
    while chances[-1] >= _RAREST or len(chances) <= self.mean_span:
      chances.append(chances[-1] * self.mean_span / len(chances))
    return np.array(chances) / sum(chances)

  def text_length(self, length: int) -> int:
    """As many as the model reads: targets are the text itself."""
    return length

  def features(self, length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of one row."""
    return _seq2seq.features(length, length)

  def bind(self, tokenizer, length: int):
    """`apply(rows, keys) -> features`, TensorFlow ops.

    Raises:
      UserError: a vocabulary without a mask, without the token that the
        decoder starts with, or without a token that ends a sentence.
    """
    start = tokenizer.id_of(self.start)
    tokenizer.id_of("mask")
    from jaxlm.data.corruption import _infilling

    return _infilling.bind(self, tokenizer, length, start)
