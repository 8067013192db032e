"""The table and the contenders of benchmarks/visible_only.py."""

import pytest

from benchmarks import visible_only
from jaxlm import paths, recipe
from jaxlm.models import assembly

ARGS = visible_only.arguments(
  ["--files=x", "--layers=3", "--width=32", "--heads=2"]
)


def result(name, seconds, losses=(), **more):
  found = dict(name=name, rate=0.4, flops=2e9, seconds=seconds)
  if losses:
    found["curves"] = [dict(steps=[10, 20], losses=list(losses))] * 2
  return found | more


def test_contenders_differ_by_little_more_than_a_row():
  """The same layers; 3ML adds its blank row, and what crosses a map more."""
  count = {}
  for name, spec in visible_only.models(ARGS).items():
    model = assembly.build(spec, vocab_size=64)
    count[name] = paths.count(recipe.shapes(model))
  full = count["full"]
  assert count["context_first"] == count["sparse_queries"] == full
  assert count["3ml"] == full + 32
  assert count["3ml_cross"] == full + 32 + 4 * (32 * 32 + 32) + 2 * 32


def test_gains_are_of_rounds_and_equal_time_is_the_fastests():
  table = visible_only.table(
    [
      result("full", [2.0, 4.0, 2.0], (4.0, 2.0)),
      result("3ml", [1.0, 1.0, 1.0], (4.0, 3.0), flops=1e9),
    ]
  )
  full, fast = table.splitlines()[-2:]
  assert full == (
    "| 40% | full | 1.00x | 2000.0 | 1.00 (1.00 to 1.00) | 2.000 ± 0.000 | "
    "4.000 ± 0.000 |"
  )
  assert fast == (
    "| 40% | 3ml | 0.50x | 1000.0 | 2.00 (2.00 to 4.00) | 3.000 ± 0.000 | "
    "3.000 ± 0.000 |"
  )
  untrained = visible_only.table([result("full", [1.0])])
  assert "loss" not in untrained


@pytest.mark.parametrize(
  "argument, reason", [("--layers=2", "at least 3"), ("--names=4ml", "'3ml'")]
)
def test_what_is_wrong_is_told(argument, reason, capsys):
  with pytest.raises(SystemExit):
    visible_only.arguments(["--files=x", argument])
  assert reason in capsys.readouterr().err
