"""A table that is made once of the rows, and a manifest that says of which."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

from jaxlm import files


class Kept(NamedTuple):
  """Where a table and its manifest are."""

  table: pathlib.Path
  manifest: pathlib.Path

  def facts(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """Facts of an earlier session's table; None if there is none of this key.

    Args:
      key: all that the table depends on, plain data.
    """
    if not self.manifest.is_file():
      return None
    found = json.loads(self.manifest.read_text(encoding="utf-8"))
    if found.get("key") != key:
      return None
    facts = found["facts"]
    return facts if files.sha256(self.table) == facts["sha256"] else None

  def write(
    self,
    key: Mapping[str, Any],
    facts: Mapping[str, Any],
    save: Callable[[BinaryIO], Any],
  ) -> dict[str, Any]:
    """Writes both, the table by `save`; gives the facts and its `sha256`."""
    with files.replacing(self.table, "wb") as file:
      save(file)
    told = {**facts, "sha256": files.sha256(self.table)}
    files.write_json(self.manifest, dict(key=key, facts=told))
    return told
