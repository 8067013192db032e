"""The whole demo, small: every stage runs and the page holds its numbers."""

import pytest

from jaxlm.demo.run import demo
from jaxlm.reports import numbers


@pytest.mark.slow
def test_the_demo_measures_and_shows(tmp_path):
  measured = demo(tmp_path, variant="tiny", finetune_steps=5, most_pairs=10)
  assert measured.preference["trained"].count == 10
  assert set(measured.modules) == {
    "pre-trained",
    "from scratch",
    "TF-IDF, logistic regression",
  }
  assert measured.modules["TF-IDF, logistic regression"].share > 0.5
  assert measured.difference < 1e-4
  page = (tmp_path / "report.html").read_text(encoding="utf-8")
  for found in measured.modules.values():
    assert numbers.with_error(found.share, found.error) in page
