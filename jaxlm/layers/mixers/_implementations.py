"""What mixers say where a config names what computes their op."""

import contextlib
from collections.abc import Sequence

from jaxlm import errors


def check(name: str | None, known: Sequence[str], kind: str) -> None:
  """Whether an op has an implementation of a name.

  Args:
    name: of the config, or None where the op picks.
    known: `implementations()` of the op.
    kind: the mixer.

  Raises:
    UserError: it has none.
  """
  if name is not None and name not in known:
    raise errors.unknown(f"mixer '{kind}' has no implementation", name, known)


@contextlib.contextmanager
def mendable(name: str | None, field: str = "implementation"):
  """Where the config names an implementation, its refusal is the user's.

  Args:
    name: of the implementation, or None where the op picks.
    field: of the mixer, which holds the name.

  Raises:
    UserError: in place of the op's NotImplementedError.
  """
  try:
    yield
  except NotImplementedError as error:
    if name is None:
      raise
    raise errors.UserError(
      f"mixer.{field}: {error} (leave it unset to have one chosen)"
    ) from error
