"""What corruptions for encoder-decoders share, without TensorFlow."""

from jaxlm.errors import UserError

SIDE = ("decoder_inputs", "decoder_segments", "decoder_positions", "targets")


def features(length: int, target: int) -> dict[str, tuple]:
  """Shapes and dtypes of a row of `length` inputs and `target` targets."""
  return {
    "inputs": ((length,), "int32"),
    **{key: ((target,), "int32") for key in SIDE},
    "weights": ((target,), "float32"),
  }


def end_of_text(tokenizer, kind: str) -> int:
  """The id that closes a text.

  Raises:
    UserError: the tokenizer has neither EOS nor SEP.
  """
  for role in ("eos", "sep"):
    if role in tokenizer.special_ids:
      return tokenizer.special_ids[role]
  raise UserError(
    f"data.corruption '{kind}' closes texts with EOS, and the tokenizer has "
    "neither EOS nor SEP."
  )


def check_share(name: str, value, *, most: float = 1.0, zero=False) -> None:
  """Raises UserError unless a field is a share in (0, most].

  Args:
    name: of the field.
    value: of the field.
    most: the largest share.
    zero: 0 is allowed, too.
  """
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if number and (0 < value <= most or (zero and value == 0)):
    return
  least = "from 0" if zero else "above 0 and"
  raise UserError(
    f"data.corruption.{name} is {value!r}; it is a share {least} up to {most}."
  )
