"""Metrics: arrays in, dicts of numbers out; scikit-learn and scipy compute.

Each dict has `count`, the items that were scored. Constant predictions are
no crash: Matthews' coefficient and F1 are then 0 (scikit-learn's own rule),
and so, with a warning, are correlations, which have no value there.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import scipy.stats
import sklearn.metrics

from jaxlm import errors
from jaxlm.evaluation import entities


def classification(
  labels: Sequence[str],
  predictions: Sequence[str],
  classes: Sequence[str] = (),
) -> dict[str, float]:
  """Accuracy with its standard error, macro F1, Matthews' coefficient, F1.

  Macro F1 is the plain mean over classes that occur among labels or
  predictions. `f1` is that of the positive class and is given for two classes
  only: "1" where a class is called so (GLUE), else the second.

  Args:
    labels: the true class of each item.
    predictions: the predicted ones.
    classes: names of all classes in order; those that occur, sorted, where
      empty.
  """
  _check(labels, predictions)
  classes = list(classes) or sorted({*labels, *predictions})
  accuracy = float(sklearn.metrics.accuracy_score(labels, predictions))
  found = {
    "accuracy": accuracy,
    "accuracy_error": binomial_error(accuracy, len(labels)),
    "macro_f1": _f1(labels, predictions, average="macro"),
    "mcc": float(sklearn.metrics.matthews_corrcoef(labels, predictions)),
    "count": len(labels),
  }
  if len(classes) == 2:
    positive = "1" if "1" in classes else classes[1]
    found["f1"] = _f1(
      [label == positive for label in labels],
      [label == positive for label in predictions],
      average="binary",
    )
  return found


def regression(
  labels: Sequence[float], predictions: Sequence[float]
) -> dict[str, float]:
  """Pearson's and Spearman's correlation and the mean squared error."""
  _check(labels, predictions)
  labels = np.asarray(labels, np.float64)
  predictions = np.asarray(predictions, np.float64)
  return {
    "pearson": _correlation(scipy.stats.pearsonr, labels, predictions),
    "spearman": _correlation(scipy.stats.spearmanr, labels, predictions),
    "mse": float(np.mean(np.square(labels - predictions))),
    "count": len(labels),
  }


def tagging(
  labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]
) -> dict[str, float]:
  """Accuracy and macro F1 of tags, and F1 of entities where tags mark them.

  Args:
    labels: the true tags of each sentence.
    predictions: as many predicted ones.
  """
  _check(labels, predictions)
  for index, (true, guess) in enumerate(zip(labels, predictions)):
    _check(true, guess, f"sentence {index}: ")
  true = [tag for tags in labels for tag in tags]
  guess = [tag for tags in predictions for tag in tags]
  accuracy = float(sklearn.metrics.accuracy_score(true, guess))
  found = {
    "accuracy": accuracy,
    "accuracy_error": binomial_error(accuracy, len(true)),
    "macro_f1": _f1(true, guess, average="macro"),
    "count": len(true),
    "sentences": len(labels),
  }
  if entities.marks_entities({*true, *guess}):
    found |= entities.scores(labels, predictions)
  return found


def binomial_error(share: float, count: int) -> float:
  """Standard error of a share of `count` independent items."""
  return math.sqrt(share * (1 - share) / count)


def _f1(labels, predictions, *, average) -> float:
  return float(
    sklearn.metrics.f1_score(
      labels, predictions, average=average, zero_division=0.0
    )
  )


def _correlation(function, labels, predictions) -> float:
  for name, values in (("label", labels), ("prediction", predictions)):
    # scipy gives NaN and a warning of its own for constant arrays.
    if np.ptp(values) == 0:
      warnings.warn(
        f"every {name} is {values[0]:g}: correlations are reported as 0",
        stacklevel=3,
      )
      return 0.0
  with warnings.catch_warnings():
    # Nearly constant arrays: the value may be inexact, but there is one.
    warnings.simplefilter("ignore")
    value = float(function(labels, predictions).statistic)
  return value if math.isfinite(value) else 0.0


def _check(labels, predictions, where=""):
  if len(labels) != len(predictions):
    raise ValueError(
      f"{where}{len(labels)} labels but {len(predictions)} predictions"
    )
  if not len(labels):
    raise errors.UserError(f"{where}there is no labelled item to score.")
