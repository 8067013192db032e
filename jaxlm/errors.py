"""Errors that a user can mend, told in a sentence."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """A mistake in a config, a file or a command; its message is the answer."""


def nearest(name: str, known: Iterable[str]) -> str:
  """' Did you mean 'x'?' for the closest known name, or ''."""
  match = difflib.get_close_matches(str(name), [str(k) for k in known], 1, 0.5)
  return f" Did you mean '{match[0]}'?" if match else ""


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
  """The one sentence for a name that is not in a list of names."""
  known = sorted(str(k) for k in known)
  listed = f" Known: {', '.join(known)}." if known else ""
  return UserError(f"{what} '{name}'.{nearest(name, known)}{listed}")
