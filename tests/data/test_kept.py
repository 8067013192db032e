"""Tables that are made once of the rows."""

from jaxlm import files
from jaxlm.data._kept import Kept


def kept_in(folder) -> Kept:
  return Kept(folder / "table.bin", folder / "table.json")


def test_a_table_is_kept_with_its_facts(tmp_path):
  kept = kept_in(tmp_path / "new")
  assert kept.facts({"rows": "a"}) is None
  told = kept.write({"rows": "a"}, {"width": 3}, lambda f: f.write(b"123"))
  assert kept.table.read_bytes() == b"123"
  assert told == {"width": 3, "sha256": files.sha256(kept.table)}
  assert kept_in(tmp_path / "new").facts({"rows": "a"}) == told


def test_another_key_or_table_is_not_taken_for_it(tmp_path):
  kept = kept_in(tmp_path)
  kept.write({"rows": "a"}, {}, lambda f: f.write(b"123"))
  assert kept.facts({"rows": "b"}) is None
  kept.table.write_bytes(b"124")
  assert kept.facts({"rows": "a"}) is None
  files.write_json(kept.manifest, {"rows": "a"})  # of an earlier version
  assert kept.facts({"rows": "a"}) is None
