"""Masking for models that encode visible tokens alone (3ML).

Liao et al., arXiv:2211.04898: what becomes [MASK] is left out of the encoder;
tokens that are replaced by others or kept stay in it, and are predicted too.
"""

import dataclasses

import numpy as np

from jaxlm.data.corruption import _counts, corruptions
from jaxlm.data.corruption.masking import Masking
from jaxlm.errors import UserError


@corruptions.register(
  "visible_masking", paper="arXiv:2211.04898", example={"rate": 0.4}
)
@dataclasses.dataclass(frozen=True)
class VisibleMasking(Masking):
  """`Masking`, with exact shares and the places that are not [MASK].

  Of k tokens that a row hides, round(mask * k) become [MASK] and round((mask +
  random) * k) minus these another token, drawn token by token in all units.
  So a row of a length always shows as many tokens, but for words or spans
  that do not fill the count and for many special tokens: of what is then too
  much, ordinary tokens are left out at random.

  `visible_positions` [v] holds the places in ascending order, and the length
  of the row in slots that are empty, at its end.

  Attributes:
    count: as of `Masking`; "total" by default, whose number does not depend
      on how many tokens are special.
  """

  count: str = "total"

  def __post_init__(self):
    super().__post_init__()
    if not self.mask:
      raise UserError(
        "data.corruption.mask is 0, so that 'visible_masking' leaves nothing "
        "out of the encoder: give the share of [MASK], or take kind='masking'."
      )
    if self.predicted > self.rate and not self.fill_last:
      raise UserError(
        f"data.corruption.predict_rate is {self.predict_rate}, above the rate "
        f"of {self.rate}: of copies, the last hides less, and 'visible_masking'"
        " shows as many tokens of each; set data.corruption.fill_last=True."
      )

  def hidden(self, count: int) -> np.ndarray:
    """int32 [count + 1]: how many of so many corrupted become [MASK]."""
    return _counts.table(self.mask, count, "exact")

  def changed(self, count: int) -> np.ndarray:
    """int32 [count + 1]: how many become [MASK] or another token."""
    return _counts.table(self.mask + self.random, count, "exact")

  def seen(self, length: int) -> int:
    """The most tokens that a row shows."""
    tokens = np.arange(length + 1)
    corrupted = _counts.table(self.rate, length, self.count)
    corrupted = np.clip(np.maximum(corrupted, 1), 0, tokens)
    return max(1, int((tokens - self.hidden(length)[corrupted]).max()))

  def features(self, length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of one row."""
    places = {"visible_positions": ((self.seen(length),), "int32")}
    return super().features(length) | places

  def bind(self, tokenizer, length: int):
    """As of `Masking`."""
    from jaxlm.data.corruption import _visible

    super().bind(tokenizer, length)  # which checks the tokenizer
    return _visible.bind(self, tokenizer, length)

  def all_masked(self) -> Masking:
    """The masking that chooses what is hidden."""
    fields = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(Masking)
      if field.init
    }
    return Masking(**(fields | dict(mask=1.0, random=0.0, keep=0.0)))
