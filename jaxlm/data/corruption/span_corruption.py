"""T5's span corruption: spans of the text become sentinels, and are the target.

Raffel et al., arXiv:1910.10683, section 3.1.4, with the lengths of their code:
a row holds just so much text that its inputs are full.
"""

import dataclasses

from jaxlm.data._roles import SENTINEL
from jaxlm.data.corruption import _lengths, _seq2seq, corruptions
from jaxlm.errors import UserError


@corruptions.register("span_corruption", paper="arXiv:1910.10683")
@dataclasses.dataclass(frozen=True)
class SpanCorruption:
  """inputs `a <0> d <1> EOS` and targets `<0> b c <1> e EOS` of `a b c d e`.

  Lengths of texts and spans are drawn uniformly over all ways to split the
  tokens; the text begins with kept tokens and ends with a span. So a row of
  one span (long spans, short rows) hides its end and nothing else, as a prefix
  language model does: `free_ends` lays spans anywhere. (The original's
  `random_roll` turns the mask around instead, which may cut a span in two and
  make a row too long.) One text a row: take the arrangement `stream`, or one
  document a row.

  Attributes:
    density: share of tokens that are taken out.
    mean_span: their number over the number of spans.
    start: role of the token that the decoder reads first: "pad" as T5, or
      "eos" as BART.
    free_ends: a text may begin with a span or end with kept tokens; uniform
      over all masks of as many spans.
  """

  density: float = 0.15
  mean_span: float = 3.0
  start: str = "pad"
  free_ends: bool = False
  single_segment = True

  def __post_init__(self):
    if not 0 < self.density < 1:
      raise UserError(
        f"data.corruption.density is {self.density}; it is a share between 0 "
        "and 1, such as 0.15."
      )
    if self.mean_span < 1:
      raise UserError(
        f"data.corruption.mean_span is {self.mean_span}; a span has at least "
        "one token."
      )

  def text_length(self, length: int) -> int:
    """Tokens of text that a row of this input length is made of.

    Raises:
      UserError: rows that are too short to hold a span.
    """
    found = _lengths.text_length(length, self.density, self.mean_span)
    if found < 2:
      raise UserError(
        f"data.length is {length}: too short for a kept token, a sentinel and "
        "the end of text."
      )
    return found

  def target_length(self, length: int) -> int:
    """Tokens of the targets of a full row, end of text included."""
    text = self.text_length(length)
    return max(
      _lengths.made(n, self.density, self.mean_span)[1] for n in range(text + 1)
    )

  def features(self, length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of one row."""
    return _seq2seq.features(length, self.target_length(length))

  def bind(self, tokenizer, length: int):
    """`apply(rows, keys) -> features`, TensorFlow ops.

    Raises:
      UserError: a vocabulary with too few sentinels, or without an end of
        text or the token that the decoder starts with.
    """
    text = self.text_length(length)
    spans = max(
      _lengths.counts(n, self.density, self.mean_span)[1]
      for n in range(text + 1)
    )
    sentinels = _sentinels(tokenizer, spans)
    from jaxlm.data.corruption import _spans

    return _spans.bind(
      self,
      length=length,
      sentinels=sentinels,
      eos=_seq2seq.end_of_text(tokenizer, "span_corruption"),
      start=tokenizer.id_of(self.start),
      pad=tokenizer.pad_id,
    )


def _sentinels(tokenizer, spans: int) -> list[int]:
  found = [tokenizer.token_to_id(SENTINEL.format(i)) for i in range(spans)]
  held = spans if None not in found else found.index(None)
  if held < spans:
    raise UserError(
      f"Rows of this data.length have up to {spans} spans, and the tokenizer "
      f"has {held} sentinels ({SENTINEL.format(0)} ...): set "
      f"config.tokenizer.sentinels={max(spans, 100)}, or make rows shorter or "
      "spans longer."
    )
  return found
