"""docs/add-a-method.md shows what stands in the files that it names."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")


def test_every_piece_of_code_is_a_piece_of_its_file():
  pieces = re.findall(r"```(?:python|toml) (\S+)\n(.*?)```", PAGE, re.S)
  assert len(pieces) == 8
  for file, code in pieces:
    assert code in (ROOT / file).read_text(encoding="utf-8"), (file, code)


def test_every_file_that_it_names_exists():
  named = re.findall(r"`((?:jaxlm|configs|tests|docs)/[\w/.-]+\.\w+)`", PAGE)
  assert len(named) > 10
  for file in named:
    assert (ROOT / file).is_file(), file
