"""TF-IDF with logistic regression: what word counts alone can do."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxlm.demo.module_task import Example

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)


class Accuracy(NamedTuple):
  """Share of right answers, its binomial standard error, and of how many."""

  share: float
  error: float
  count: int


def tfidf(
  train: Sequence[Example],
  validation: Sequence[Example],
  test: Sequence[Example],
) -> Accuracy:
  """Test accuracy; the regularisation is chosen on `validation`.

  Words, counted with sublinear frequencies (pairs of words were no better on
  the demo's task). Deterministic.
  """
  from sklearn.feature_extraction.text import TfidfVectorizer
  from sklearn.linear_model import LogisticRegression
  from threadpoolctl import threadpool_limits

  vectorizer = TfidfVectorizer(sublinear_tf=True)
  features = vectorizer.fit_transform(_texts(train))
  best, best_share = None, -1.0
  # Threads cost more than they bring on matrices as sparse as these.
  with threadpool_limits(1):
    for strength in STRENGTHS:
      model = LogisticRegression(C=strength, max_iter=1000)
      model.fit(features, _labels(train))
      share = _share(model, vectorizer, validation)
      if share > best_share:
        best, best_share = model, share
    return accuracy(_share(best, vectorizer, test), len(test))


def accuracy(share: float, count: int) -> Accuracy:
  """With the binomial standard error, sqrt(p (1 - p) / n)."""
  return Accuracy(share, math.sqrt(share * (1 - share) / count), count)


def _share(model, vectorizer, examples) -> float:
  features = vectorizer.transform(_texts(examples))
  return float(model.score(features, _labels(examples)))


def _texts(examples) -> list[str]:
  return [e["text"] for e in examples]


def _labels(examples) -> list[str]:
  return [e["label"] for e in examples]
