"""E2S2's two views of a text: infilled, and that with noise to be found.

Zhong et al., arXiv:2205.14912, with the numbers of the released
`denoising_dataset`. What is a slip there is mended here: masks are never
replaced, the share of replaced tokens is the one that is asked for, and no
shuffle leaves its tokens where they are.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxlm.data.corruption import _seq2seq, corruptions
from jaxlm.data.corruption.infilling import Infilling
from jaxlm.errors import UserError

# What `tags` says of a token of the second view.
KEPT, SHUFFLED, REPLACED = range(3)


@corruptions.register("e2s2", paper="arXiv:2205.14912")
@dataclasses.dataclass(frozen=True)
class E2S2:
  """`inputs` infilled; `corrupted_inputs`, the same shuffled and replaced.

  Shuffled are trigrams around single-token words, one in each window of as
  many words as make the share; replaced are tokens that are not shuffled.
  `tags` [length] tell of each token of the second view whether it was kept
  (0), shuffled (1) or replaced (2): whether it differs from the first.

  Attributes:
    infilling: fields of the corruption `infilling`.
    shuffle: trigrams, as a share of the tokens; 0 for none.
    most_shuffles: trigrams of a text at most, from its beginning on; 0 for
      no limit. The release counts as if texts had at most 512 tokens.
    replace: share of tokens that become others.
  """

  infilling: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"rate": 0.15, "mean_span": 3.0}
  )
  shuffle: float = 0.05
  most_shuffles: int = 26
  replace: float = 0.05
  single_segment = True

  def __post_init__(self):
    _seq2seq.check_share("shuffle", self.shuffle, most=1 / 3, zero=True)
    _seq2seq.check_share("replace", self.replace, zero=True)
    if self.most_shuffles < 0:
      raise UserError(
        f"data.corruption.most_shuffles is {self.most_shuffles}; it is 0 (no "
        "limit) or more."
      )
    self.infills()

  def infills(self) -> Infilling:
    """The corruption of the first view."""
    return corruptions.build({"kind": "infilling", **self.infilling})

  @property
  def window(self) -> int:
    """Words of which one is in the middle of a trigram."""
    return int(1 / (3 * self.shuffle)) * 3

  def text_length(self, length: int) -> int:
    """As many as the model reads."""
    return self.infills().text_length(length)

  def features(self, length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of one row."""
    return self.infills().features(length) | {
      "corrupted_inputs": ((length,), "int32"),
      "tags": ((length,), "int32"),
      "tag_weights": ((length,), "float32"),
    }

  def bind(self, tokenizer, length: int):
    """`apply(rows, keys) -> features`, TensorFlow ops.

    Raises:
      UserError: as of `infilling`, or a vocabulary without a token that could
        replace another.
    """
    if self.replace and not len(tokenizer.random_pool):
      raise UserError(
        "data.corruption.replace wants other tokens, and the tokenizer has "
        "none but special ones."
      )
    infill = self.infills().bind(tokenizer, length)
    from jaxlm.data.corruption import _e2s2

    return _e2s2.bind(self, infill, tokenizer, length)
