"""The benchmark of long rows runs, and its table holds every contender."""

import pytest

from benchmarks import long_convolution


@pytest.mark.slow
def test_quick_run_measures_every_contender(capsys):
  times = long_convolution.main(["--quick", "--width=16"])
  assert set(times) == {64, 128}
  for row in times.values():
    assert set(row) == {"attention", "hedgehog", "hyena"}
    assert min(row.values()) > 0
  lines = capsys.readouterr().out.splitlines()
  assert sum(line.startswith(("| 64 ", "| 128 ")) for line in lines) == 2
  assert "attention / hyena" in lines[1]
