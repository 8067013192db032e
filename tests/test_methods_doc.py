"""docs/methods.md is what the registries, configs and notes make of it."""

import re

import pytest

from jaxlm.errors import UserError
from jaxlm.reports import methods


def every_part():
  return {
    (family, kind)
    for family, registry in methods.registries().items()
    for kind in registry.kinds()
  }


def test_the_page_is_the_generated_one():
  page = methods.ROOT / "docs" / "methods.md"
  assert page.read_text(encoding="utf-8") == methods.render(), (
    "run: jaxlm methods --out=docs/methods.md"
  )


def test_every_part_has_its_entry_and_no_entry_is_left_over():
  methods.check(methods.notes())


def test_every_family_has_a_slot():
  assert set(methods.registries()) == set(methods.SLOTS)
  assert set(methods._PLACES.values()) | {"head"} == set(methods.SLOTS)


def test_every_part_has_a_row_in_its_section():
  text = methods.render()
  found = set()
  for section in text.split("\n## ")[1:]:
    family = section.partition("\n")[0]
    for kind in re.findall(r"^\| `(\w+)` \|", section, re.M):
      found.add((family, kind))
  assert found == every_part()


def test_tests_that_are_named_exist():
  for family, kinds in methods.notes().items():
    for kind, entry in kinds.items():
      for test in entry["tests"]:
        path, _, name = test.partition("::")
        text = (methods.ROOT / path).read_text(encoding="utf-8")
        assert f"def {name}(" in text, f"{family}.{kind}: {test}"


def test_configs_are_told_that_use_a_part():
  uses = methods.uses()
  assert uses["position", "alibi"] == ["demo", "mosaicbert"]
  assert "modernbert" in uses["position", "rotary"]  # inside a mixer
  assert "bert" in uses["objective", "masked_lm_next_sentence"]
  assert "bert" in uses["head", "classify"]
  assert set(uses) <= every_part()


def test_what_is_missing_is_listed():
  told = methods.notes()
  del told["mixer"]["attention"], told["norm"]["rms_norm"]["claim"]
  told["mixer"]["atention"] = {}
  with pytest.raises(UserError) as error:
    methods.check(told)
  assert "[mixer.attention] is missing" in str(error.value)
  assert "[norm.rms_norm] has no claim" in str(error.value)
  assert "[mixer.atention] is no part" in str(error.value)


def test_the_command_writes_the_page(tmp_path, capsys):
  from jaxlm.commands import methods as command

  command.main([f"--out={tmp_path / 'methods.md'}"])
  assert f"{len(every_part())} parts" in capsys.readouterr().out
  assert (tmp_path / "methods.md").read_text("utf-8") == methods.render()


def test_no_notes_no_page(tmp_path):
  with pytest.raises(UserError, match="works in a checkout"):
    methods.notes(tmp_path / "methods.toml")
  (tmp_path / "bad.toml").write_text("a = = 1")
  with pytest.raises(UserError, match="bad.toml"):
    methods.notes(tmp_path / "bad.toml")
