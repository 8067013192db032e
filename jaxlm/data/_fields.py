"""Checks of fields that kinds of data share; each raises UserError."""

from collections.abc import Sequence

from jaxlm import errors
from jaxlm.data.corruption import corruptions


def check_whole(data, names: Sequence[str]) -> None:
  """Fields that are whole numbers of at least 1."""
  for name in names:
    value = getattr(data, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
      raise errors.UserError(
        f"data.{name} is {value!r}; it is a whole number of at least 1."
      )


def check_masking(data, does: str) -> None:
  """`masking`: a corruption of the kind `masking`, or {}.

  Args:
    data: a data set with that field.
    does: what it is for.
  """
  if data.masking and data.masking.get("kind") != "masking":
    raise errors.unknown(
      f"data.masking {does}; it cannot be of the kind",
      str(data.masking.get("kind")),
      ("masking",),
    )


def masked_view(data, tokenizer, length: int):
  """What hides tokens by the field `masking`, of `_masked_view`; or None."""
  if not data.masking:
    return None
  from jaxlm.data._masked_view import masked_view as bound

  return bound(corruptions.build(data.masking), tokenizer, length)
