"""Prefix language modelling: the rest of a text from its beginning.

Raffel et al., arXiv:1910.10683, section 3.2.3; the S denoiser of UL2 (Tay et
al., arXiv:2205.05131).
"""

import dataclasses

from jaxlm.data.corruption import _seq2seq, corruptions
from jaxlm.errors import UserError


@corruptions.register("prefix_lm", paper="arXiv:1910.10683, arXiv:2205.05131")
@dataclasses.dataclass(frozen=True)
class PrefixLM:
  """inputs `a b EOS` and targets `c d e EOS` of `a b c d e`.

  The prefix of n tokens is uniform from (1 - 2 density) (n - 1), at least 1,
  to n - 1. One text a row: take the arrangement `stream`, or one document a
  row. A text of one token is all target.

  Attributes:
    density: share of a text that is predicted, on average; T5 has 0.5, and
      nothing above it can be.
    start: role of the token that the decoder reads first.
  """

  density: float = 0.5
  start: str = "pad"
  single_segment = True

  def __post_init__(self):
    _seq2seq.check_share("density", self.density, most=0.5)

  def shortest(self, count: int) -> int:
    """The shortest prefix of a text of `count` tokens."""
    most = max(count - 1, 0)
    return min(most, max(1, round((1 - 2 * self.density) * most)))

  def text_length(self, length: int) -> int:
    """Tokens of text: the longest prefix, and its EOS, fill the inputs.

    Raises:
      UserError: rows that are too short for a prefix and a rest.
    """
    if length < 2:
      raise UserError(
        f"data.length is {length}: too short for a token and the end of text."
      )
    return length

  def target_length(self, length: int) -> int:
    """Tokens of the longest targets, end of text included."""
    text = self.text_length(length)
    return 1 + max(n - self.shortest(n) for n in range(text + 1))

  def features(self, length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of one row."""
    return _seq2seq.features(length, self.target_length(length))

  def bind(self, tokenizer, length: int):
    """`apply(rows, keys) -> features`, TensorFlow ops.

    Raises:
      UserError: a vocabulary without an end of text or the token that the
        decoder starts with.
    """
    eos = _seq2seq.end_of_text(tokenizer, "prefix_lm")
    start = tokenizer.id_of(self.start)
    from jaxlm.data.corruption import _prefix

    return _prefix.bind(
      self, length=length, eos=eos, start=start, pad=tokenizer.pad_id
    )
