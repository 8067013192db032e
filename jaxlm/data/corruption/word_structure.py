"""StructBERT's words out of order, beside masked ones.

Wang et al., arXiv:1908.04577, section 2.2: of the tokens that are not masked,
some trigrams are shuffled, and the model says what stood at each of their
places, as it does for masked tokens. The code was never released; where the
paper is silent, docs/methods.md says what was decided.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlm.data.corruption import _seq2seq, corruptions
from jaxlm.data.corruption.masking import Masking
from jaxlm.errors import UserError


@corruptions.register("word_structure", paper="arXiv:1908.04577")
@dataclasses.dataclass(frozen=True)
class WordStructure:
  """Masks, and shuffles trigrams of what is left; predicts both.

  Trigrams lie in one segment, hold no special and no masked token, do not
  overlap, and are drawn one after the other among those that are left; each
  of the five orders that are not its own is as likely.

  Attributes:
    masking: fields of the corruption `masking`; all that is hidden is
      predicted, once.
    shuffle: share of the tokens that are in shuffled trigrams, rounded to
      whole trigrams.
  """

  masking: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  shuffle: float = 0.05

  def __post_init__(self):
    _seq2seq.check_share("shuffle", self.shuffle)
    masks = self.masks()
    if masks.predicted != masks.rate or masks.boundaries:
      raise UserError(
        "data.corruption.masking sets predict_rate or boundaries; "
        "'word_structure' predicts what is hidden and nothing else of it."
      )

  def masks(self) -> Masking:
    """The corruption that hides tokens."""
    return corruptions.build({"kind": "masking", **self.masking})

  def text_length(self, length: int) -> int:
    """As many as the model reads."""
    return length

  def trigrams(self, length: int) -> np.ndarray:
    """int32 [length + 1]: how many to shuffle of so many tokens."""
    counts = np.arange(length + 1) * self.shuffle / 3
    return np.floor(counts + 0.5).astype(np.int32)

  def features(self, length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of one row."""
    hidden = self.masks().features(length)
    more = 3 * int(self.trigrams(length)[-1])
    return {
      key: ((shape[0] + more,) if key.startswith("predict") else shape, dtype)
      for key, (shape, dtype) in hidden.items()
    }

  def bind(self, tokenizer, length: int):
    """`apply(rows, keys) -> features`, TensorFlow ops.

    Raises:
      UserError: a vocabulary that cannot be masked.
    """
    from jaxlm.data.corruption import _word_structure

    hide = self.masks().bind(tokenizer, length)
    return _word_structure.bind(self, hide, tokenizer, length)
