"""The races of architectures: who runs, and on equal terms."""

import pytest

from benchmarks import architectures
from jaxlm import errors

ARGS = architectures.arguments(["--files=corpus.txt"])


@pytest.mark.parametrize("race", architectures.RACES)
def test_contenders_have_the_same_data_objective_and_width(race):
  race = architectures.RACES[race]
  names = architectures.names(race)
  configs = [architectures.config_of(name, race, ARGS) for name in names]
  assert len(configs) >= 3
  for key in ("arrangement", "corruption", "length", "files"):
    assert all(c["data"][key] == configs[0]["data"][key] for c in configs)
  assert {c["model"]["width"] for c in configs} == {architectures.WIDTH}
  shared = [c for c in configs if c["model"]["kind"] not in race.own]
  assert {c["objective"]["kind"] for c in shared} == {race.objective}
  assert all(list(c["model"]["heads"]) == [race.head] for c in shared)
  models = [repr(c["model"]) for c in configs]
  assert len(set(models)) == len(models)


def test_equal_models_run_once_under_the_config_beneath():
  names = architectures.names(architectures.RACES["masked_lm"])
  assert "squeezebert" in names and "adahessian_squeezebert" not in names
  assert "bert" in names and "structbert" not in names
  assert "roberta" in names and "nepali" not in names


@pytest.mark.parametrize(
  "race, name", [("masked_lm", "mobilebert"), ("next_token", "elmo")]
)
def test_feed_forwards_or_cells_make_up_the_parameters(race, name):
  race = architectures.RACES[race]
  model = architectures.config_of(name, race, ARGS)["model"]
  for wanted in (400_000, 600_000):
    _, size = architectures.fitted(model, wanted, 1024)
    assert abs(size - wanted) < 0.05 * wanted  # 16 cells of four LSTMs


def test_a_stranger_is_told_the_nearest_name():
  with pytest.raises((SystemExit, errors.UserError), match="'gpt2'"):
    architectures.main(
      ["--files=x", "--race=next_token", "--names=gpt", "--json="]
    )
