"""Causal language modelling: each token predicts the next.

Rows hold one token more than a batch, so none is lost to the shift. Nothing
is predicted across the border of two segments, or on padding.
"""

import dataclasses

from jaxlm.data.corruption import corruptions


@corruptions.register("causal", paper="Radford et al. 2019, GPT-2")
@dataclasses.dataclass(frozen=True)
class Causal:
  """`inputs`, and `targets` shifted by one, with `weights`."""

  def text_length(self, length: int) -> int:
    """One more, which only predicts."""
    return length + 1

  def features(self, length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of one row."""
    return {
      "inputs": ((length,), "int32"),
      "targets": ((length,), "int32"),
      "weights": ((length,), "float32"),
    }

  def bind(self, tokenizer, length: int):
    """`apply(rows, keys) -> features`, TensorFlow ops; keys are not used."""
    del tokenizer
    from jaxlm.data.corruption import _plain

    return _plain.causal(length)
