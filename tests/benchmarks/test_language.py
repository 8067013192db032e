"""The tables of benchmarks/variation_sets.py and vocabularies.py."""

import pytest

from benchmarks import variation_sets, vocabularies
from jaxlm import configuration

ARGS = variation_sets.arguments(
  ["--files=x", "--pairs=y", "--shares=0,0.4", "--stops=5,20"]
)


def result(order, share, seed, accuracy):
  stop = lambda a: dict(accuracy=a, loss=3.0, by_term=dict(binding=a))
  return dict(
    order=order,
    share=share,
    seed=seed,
    stops={"5": stop(0.5), "20": stop(accuracy)},
    seconds=2.0,
    realised=share,
    rows=100,
  )


def test_conditions_and_their_spread():
  results = [
    result("together", 0.0, seed, accuracy)
    for seed, accuracy in enumerate((0.5, 0.52, 0.54))
  ]
  results += [result("adjacent", 0.4, 0, 0.6)]
  table = variation_sets.table(results, ARGS).splitlines()
  assert table[2] == (
    "| together | 0% | 0.0% | 100 | 50.00 ± 0.00 | 52.00 ± 2.00 | "
    "3.00 ± 0.00 | 2 |"
  )
  assert table[3].startswith("| adjacent | 40% | 40.0% |")
  assert len(table) == 4  # what was not run has no row
  assert variation_sets.wanted(ARGS) == [
    ("together", 0.0),
    ("together", 0.4),
    ("adjacent", 0.4),
    ("shuffled", 0.4),
  ]


def test_orders_differ_in_data_alone():
  """One model, one vocabulary, as many updates."""
  made = {
    order: variation_sets.config_of(order, 0.4, 1, ARGS)
    for order in ("together", "adjacent", "shuffled")
  }
  for config in made.values():
    assert config["data"]["kind"] == "variation_sets"
    for key in ("model", "tokenizer", "optimizer", "schedule", "steps"):
      assert config[key] == made["together"][key]
  assert made["adjacent"]["data"]["order"]["kind"] == "lanes"
  assert made["shuffled"]["data"]["presentation"] == "shuffled"
  assert configuration.complete(made["together"]) == made["together"]


def test_vocabularies_are_measured(tmp_path, capsys):
  text = "\n".join(["the cat sat on the mat .", "a dog ran after it ."] * 20)
  (tmp_path / "a.txt").write_text(text)
  (tmp_path / "short").mkdir()
  (tmp_path / "short" / "vocab.txt").write_text(
    "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat"])
  )
  path = tmp_path / "a.txt"
  vocabularies.main(
    [
      f"--train={path}",
      f"--test={path}",
      f"--published={tmp_path}",
      "--kinds=wordpiece",
      "--sizes=120",
      "--seeds=2",
    ]
  )
  own, published = capsys.readouterr().out.splitlines()[-2:]
  # Every word of the text is one piece: 12 tokens, 12 words... of 13.
  assert own.split("|")[3].strip() == "1.000 ± 0.000"
  assert own.split("|")[5].strip() == "0.000% ± 0.000%"
  # [UNK] but for "the", twice, and "cat", of 13 tokens.
  assert published.split("|")[5].strip() == "76.923%"
  assert "unknown to it" in published


def test_what_is_lacking_is_told():
  with pytest.raises(SystemExit):
    variation_sets.arguments(["--files=x"])
