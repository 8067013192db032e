import math

import numpy as np
import pytest

from jaxlm import errors
from jaxlm.evaluation import entities, metrics


def _counts(labels, predictions):
  pairs = list(zip(labels, predictions))
  return [
    sum(p == (a, b) for p in pairs)
    for a, b in (("1", "1"), ("0", "1"), ("1", "0"), ("0", "0"))
  ]


def test_classification_equals_the_formulas():
  rng = np.random.default_rng(0)
  labels = [str(x) for x in rng.integers(0, 2, 60)]
  predictions = [x if rng.random() < 0.7 else "1" for x in labels]
  tp, fp, fn, tn = _counts(labels, predictions)
  found = metrics.classification(labels, predictions, ("1", "0"))
  accuracy = (tp + tn) / 60
  assert found["accuracy"] == pytest.approx(accuracy)
  assert found["accuracy_error"] == pytest.approx(
    math.sqrt(accuracy * (1 - accuracy) / 60)
  )
  f1, other = 2 * tp / (2 * tp + fp + fn), 2 * tn / (2 * tn + fp + fn)
  assert found["f1"] == pytest.approx(f1)  # of "1", though it comes first
  assert found["macro_f1"] == pytest.approx((f1 + other) / 2)
  root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
  assert found["mcc"] == pytest.approx((tp * tn - fp * fn) / root)
  assert found["count"] == 60


def test_positive_class_is_the_second_unless_one_is_named_1():
  labels, guesses = ["yes", "no", "no"], ["yes", "yes", "no"]
  found = metrics.classification(labels, guesses, ("no", "yes"))
  assert found["f1"] == pytest.approx(2 / 3)
  found = metrics.classification(labels, guesses, ("yes", "no"))
  assert found["f1"] == pytest.approx(2 / 3)
  assert "f1" not in metrics.classification(labels, guesses, ("x", "y", "z"))


def test_standard_errors_of_small_glue_sets():
  # systems/evaluation.md 13.3: RTE 2.8 points at 70 %, WNLI 5.9.
  assert metrics.binomial_error(0.70, 277) == pytest.approx(0.028, abs=5e-4)
  assert metrics.binomial_error(0.88, 408) == pytest.approx(0.016, abs=5e-4)


def test_constant_predictions_are_zero_not_nan():
  found = metrics.classification(["0", "1", "1"], ["0", "0", "0"])
  assert (found["mcc"], found["f1"]) == (0.0, 0.0)
  with pytest.warns(UserWarning, match="every prediction is 2.5"):
    found = metrics.regression([1.0, 2.0, 3.0], [2.5, 2.5, 2.5])
  assert (found["pearson"], found["spearman"]) == (0.0, 0.0)
  assert found["mse"] == pytest.approx((1.5**2 + 0.5**2 + 0.5**2) / 3)
  with pytest.warns(UserWarning, match="every label is 1"):
    metrics.regression([1.0, 1.0], [0.0, 2.0])


def test_correlations_equal_the_formulas():
  rng = np.random.default_rng(1)
  x, y = rng.normal(size=40), rng.normal(size=40)
  y += x
  x[3] = x[4]  # a tie takes the average rank
  found = metrics.regression(x, y)
  assert found["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
  ranks = [
    [
      sum(other < v for other in z) + (sum(other == v for other in z) + 1) / 2
      for v in z
    ]
    for z in (x, y)
  ]
  assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
  again = metrics.regression(np.exp(x), y)
  assert again["spearman"] == pytest.approx(found["spearman"])


@pytest.mark.parametrize(
  "true, guess, f1",
  [  # systems/goldens.md 14, checked there against seqeval
    ("O B-PER I-PER O B-LOC", "O I-PER I-PER O B-LOC", 1.0),
    ("O B-PER I-PER O B-LOC", "O B-PER I-LOC O B-LOC", 0.4),
    ("O O", "O O", 0.0),
    ("B-X B-X", "B-X I-X", 0.0),
  ],
)
def test_entity_f1_goldens(true, guess, f1):
  found = entities.scores([true.split()], [guess.split()])
  assert found["entity_f1"] == pytest.approx(f1)


def test_entities_of_each_scheme():
  per, loc = ("PER", 0, 1), ("LOC", 2, 2)
  for tags in (
    "B-PER I-PER B-LOC O",
    "I-PER I-PER I-LOC O",
    "B-PER E-PER S-LOC O",
    "B-PER L-PER U-LOC O",
  ):
    assert entities.find(tags.split()) == {per, loc}, tags
  touching = ["I-PER", "I-PER", "B-PER"]  # IOB1
  assert entities.find(touching) == {("PER", 0, 1), ("PER", 2, 2)}
  assert entities.find(["S-X", "I-X"]) == {("X", 0, 0), ("X", 1, 1)}
  assert entities.find(["O", "B-A"]) == {("A", 1, 1)}


def test_an_entity_ends_with_its_sentence():
  apart = entities.scores([["B-X"], ["I-X"]], [["B-X"], ["I-X"]])
  assert apart["entities"] == 2
  assert entities.scores([["B-X", "I-X"]], [["B-X", "I-X"]])["entities"] == 1


def test_tagging_tells_entities_from_parts_of_speech():
  found = metrics.tagging([["NOUN", "VERB"], ["NOUN"]], [["NOUN"] * 2, ["X"]])
  assert "entity_f1" not in found
  assert found["accuracy"] == pytest.approx(1 / 3)
  # NOUN: 1 right, 1 too many, 1 missed; VERB and X have none right.
  assert found["macro_f1"] == pytest.approx(0.5 / 3)
  assert (found["count"], found["sentences"]) == (3, 2)
  found = metrics.tagging([["B-A", "O"]], [["B-A", "B-A"]])
  assert found["entity_precision"] == 0.5 and found["entity_recall"] == 1.0


def test_nothing_to_score_and_unequal_lengths():
  with pytest.raises(errors.UserError, match="no labelled item"):
    metrics.classification([], [])
  with pytest.raises(ValueError, match="2 labels but 1 predictions"):
    metrics.regression([1.0, 2.0], [1.0])
  with pytest.raises(ValueError, match="sentence 1: 1 labels but 2"):
    metrics.tagging([["O"], ["O"]], [["O"], ["O", "O"]])
