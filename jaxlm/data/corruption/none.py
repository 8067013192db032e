"""No corruption: rows as they are, for sentence-level tasks and look-ups."""

import dataclasses

from jaxlm.data.corruption import corruptions


@corruptions.register("none")
@dataclasses.dataclass(frozen=True)
class NoCorruption:
  """`inputs` alone, with the features that all share."""

  def text_length(self, length: int) -> int:
    """As many as the model reads."""
    return length

  def features(self, length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of one row."""
    return {"inputs": ((length,), "int32")}

  def bind(self, tokenizer, length: int):
    """`apply(rows, keys) -> features`, TensorFlow ops; keys are not used."""
    del tokenizer
    from jaxlm.data.corruption import _plain

    return _plain.unchanged(length)
