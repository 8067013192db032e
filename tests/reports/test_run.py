import json

import pytest

from jaxlm.errors import UserError
from jaxlm.reports import Facts, Figure, Listing, Table, run_report
from jaxlm.reports.run import read_metrics, run_sections

CARD = {
  "step": 40,
  "parameters": 1234,
  "config": {"seed": 3, "model": {"kind": "encoder"}},
  "sessions": [{"started": "2026-01-02T03:04:05+00:00", "seconds": 9.0}],
  "devices": {"kind": "cpu", "count": 2},
  "throughput": {"tokens": 5000, "tokens_per_second": 111.5, "mfu": None},
  "cost": {"dollars": 0.25, "kg_co2e": None},
  "versions": {"python": "3.11.7", "numpy": "2"},
  "git": {"commit": "0123456789abcdef", "changed": True},
}


def write(folder, *lines, card=None):
  if lines:
    (folder / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
  if card is not None:
    (folder / "run.json").write_text(json.dumps(card), encoding="utf-8")
  return folder


def line(step, **values):
  return json.dumps({"step": step, **values})


def test_metrics_by_split_and_step(tmp_path):
  write(
    tmp_path,
    line(2, **{"train/loss": 4.0, "validation/loss": 4.5}),
    line(1, loss=5.0, seconds=1.0, grad_norm=None, finite=True),
    line(2, **{"train/loss": 3.0}),
    "[1, 2]",
    '{"step": 3, "loss": NaN, "note": "text"}',
    '{"step": 4, "loss": 2.',
  )
  assert read_metrics(tmp_path / "metrics.jsonl") == {
    "loss": {"train": ([1, 2], [5.0, 3.0]), "validation": ([2], [4.5])}
  }


def test_terms_of_the_loss_keep_their_split(tmp_path):
  write(tmp_path, line(1, **{"validation/loss/nsp": 1.0, "loss/nsp": 2.0}))
  assert read_metrics(tmp_path / "metrics.jsonl") == {
    "loss/nsp": {"validation": ([1], [1.0]), "train": ([1], [2.0])}
  }


def test_report_of_a_run(tmp_path):
  write(
    tmp_path,
    line(10, loss=5.0, learning_rate=1e-3, tokens_per_second=100.0),
    line(20, loss=4.0, learning_rate=2e-3, **{"validation/loss": 4.5}),
    card=CARD,
  )
  path = run_report(tmp_path, title="My run")
  assert path == tmp_path / "report.html"
  text = path.read_text(encoding="utf-8")
  for words in (
    "My run",
    "started 2026-01-02 03:04 UTC, 2 \u00d7 cpu",
    "1,234",
    "0123456789ab with changes",
    "US dollars",
    "model.kind = &quot;encoder&quot;",
    "<h2>Loss</h2>",
    "<h2>Learning rate</h2>",
    "<h2>Speed</h2>",
  ):
    assert words in text
  assert "CO2e" not in text  # unknown, so left out
  assert run_report(tmp_path) == path  # derived: written again


def test_order_of_the_sections(tmp_path):
  write(
    tmp_path,
    line(1, zeta=1.0, learning_rate=1.0, loss=1.0),
    card=CARD,
  )
  found = [(type(s), s.title) for s in run_sections(tmp_path)]
  assert found == [
    (Facts, "Summary"),
    (Figure, "Loss"),
    (Figure, "Learning rate"),
    (Figure, "zeta"),
    (Listing, "Configuration"),
    (Listing, "Everything recorded"),
  ]


def test_a_single_term_is_drawn_with_the_loss(tmp_path):
  write(
    tmp_path,
    line(
      1, loss=2.0, **{"loss/masked_lm": 2.0, "validation/loss/masked_lm": 3}
    ),
  )
  figures = [s for s in run_sections(tmp_path) if isinstance(s, Figure)]
  assert [f.title for f in figures] == ["Loss"]
  assert "validation 3" in figures[0].svg


def test_without_a_card_the_last_values_are_told(tmp_path):
  write(tmp_path, line(7, loss=1.5))
  first = run_sections(tmp_path)[0]
  assert isinstance(first, Table)
  assert first.rows == [["Loss", "training", 7, 1.5]]


def test_a_card_alone_is_enough(tmp_path):
  write(tmp_path, card={"step": 1})
  assert run_report(tmp_path).exists()


def test_a_folder_without_a_run(tmp_path):
  with pytest.raises(UserError, match="no workdir of a run"):
    run_report(tmp_path)


def test_a_broken_card(tmp_path):
  (tmp_path / "run.json").write_text("{")
  with pytest.raises(UserError, match=r"run\.json' is not JSON"):
    run_report(tmp_path)
