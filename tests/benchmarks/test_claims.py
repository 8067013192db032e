"""The studies of objectives: contenders that fit, on equal terms."""

import pytest

from benchmarks import claims
from jaxlm import run

TEXT = "The old dog ran home. A red ball lay there.\n\n" * 60


@pytest.fixture
def args(tmp_path):
  args = claims.arguments(["--study=notes", f"--shared={tmp_path}"])
  args.folder, args.files = tmp_path, tmp_path / "stories.txt"
  args.files.write_text(TEXT)
  return args


@pytest.mark.parametrize("study", claims.STUDIES)
def test_contenders_fit_and_differ_in_what_is_studied_alone(study, args):
  found = claims.STUDIES[study].contenders(args)
  configs = [claims.config_of(changes, args) for changes in found.values()]
  assert len(configs) >= 2
  for config in configs:
    run.check(config)
  for key in ("optimizer", "schedule", "tokenizer", "steps", "seed"):
    assert all(c[key] == configs[0][key] for c in configs), key


def test_more_predicted_than_hidden_makes_several_rows_of_each(args):
  found = claims.STUDIES["masking_rates"].contenders(args)
  rows = {
    name: claims.config_of(changes, args)["batch_size"]
    for name, changes in found.items()
  }
  assert rows["40% hidden, 20% predicted"] == args.rows
  assert rows["20% hidden, 40% predicted"] == 2 * args.rows


def test_the_table_tells_means_and_deviations_of_seeds():
  seeds = [{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}]
  results = [
    dict(name="a", steps=7, flops=2.0, seeds=seeds),
    dict(name="b", steps=7, flops=3.0, seeds=[s | {"more": 1} for s in seeds]),
  ]
  assert claims.table(results).splitlines() == [
    "| contender | steps | FLOPs | loss | more |",
    "|---|---|---|---|---|",
    "| a | 7 | 1.00x | 2.000 ± 1.000 | - |",
    "| b | 7 | 1.50x | 2.000 ± 1.000 | 1.000 ± 0.000 |",
  ]


def test_a_study_that_is_not_there_is_told(capsys):
  with pytest.raises(SystemExit):
    claims.arguments(["--study=maskin", "--shared=."])
  assert "Did you mean 'masking'?" in capsys.readouterr().err
