"""Contrast from nothing: arms that differ in the contrast alone."""

import pytest

from benchmarks import contrast
from jaxlm import run


@pytest.mark.parametrize("study", contrast.STUDIES)
def test_arms_fit_and_differ_in_the_temperature_alone(study, tmp_path):
  text = tmp_path / "text"
  for name in ("simcse/wiki-sentences.txt.gz", "text/wikitext-2/train.txt.gz"):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"")
  assert text.is_dir()
  args = contrast.arguments([f"--study={study}", f"--shared={tmp_path}"])
  first, second = contrast.arms(args).values()
  for config in (first, second):
    run.check(config)
  assert first["objective"].pop("temperature") < 1
  assert second["objective"].pop("temperature") == contrast.FLAT
  assert first == second


def test_a_study_that_is_not_there_is_told(capsys):
  with pytest.raises(SystemExit):
    contrast.arguments(["--study=cler", "--shared=."])
  assert "Did you mean 'clear'?" in capsys.readouterr().err
