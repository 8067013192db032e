"""Minimal pairs: does a model prefer the sentence that speakers accept?

Warstadt et al., "BLiMP: The Benchmark of Linguistic Minimal Pairs for
English", 2020, arXiv:1912.00582. JSON lines with `sentence_good`,
`sentence_bad` and, where given, `UID` and `linguistics_term`; a pair is right
if the good sentence scores strictly higher. The mean over paradigms (UIDs)
weighs each alike, whatever its number of pairs.
"""

import pathlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlm import errors
from jaxlm.data import _read, sources
from jaxlm.evaluation import records
from jaxlm.evaluation.likelihood import log_likelihood
from jaxlm.evaluation.metrics import binomial_error
from jaxlm.evaluation.pseudo_likelihood import pll


class Pair(NamedTuple):
  """Two sentences, the paradigm and the phenomenon that they belong to."""

  good: str
  bad: str
  uid: str
  term: str


def read(files, most: int = 0) -> list[Pair]:
  """The pairs of JSON-lines files (.gz and .zst too).

  Args:
    files: a path, folder, pattern, several with commas between, or a list.
    most: pairs of a paradigm, the first; 0 for all.

  Raises:
    UserError: no such file, or a line that is no pair.
  """
  found: list[Pair] = []
  for path in _read.find(files, "files"):
    stem = pathlib.Path(path).name.split(".")[0]
    for number, row in sources.json_rows(path):
      found.append(_pair(row, f"'{path}', line {number}", stem))
  if not found:
    raise errors.UserError(f"files: '{files}' holds no pairs.")
  return _first(found, most) if most else found


def pairs(
  loaded,
  files,
  *,
  method: str | None = None,
  variant: str = "original",
  reduction: str = "sum",
  out=None,
  rows: int = 64,
  most: int = 0,
) -> dict[str, Any]:
  """Accuracy of a model on minimal pairs.

  Args:
    loaded: a `jaxlm.loading.Loaded`, or alike.
    files: see `read`.
    method: "pll" (masked) or "log_likelihood" (causal); by the model's head
      where None.
    variant: of PLL, see `pseudo_likelihood.pll`.
    reduction: "sum" or "mean" over the tokens of a sentence.
    out: file for one JSON line a pair, with both scores.
    rows: rows of a forward.
    most: pairs of a paradigm; see `read`.

  Returns:
    What `aggregate` gives, and `method`, `variant` and `reduction`.

  Raises:
    UserError: files or sentences that do not fit, or no language-model head.
  """
  items = read(files, most)
  method = method or _method(loaded.model)
  texts = [text for item in items for text in (item.good, item.bad)]
  if method == "pll":
    scores = pll(loaded, texts, variant=variant, reduction=reduction, rows=rows)
  elif method == "log_likelihood":
    scores = log_likelihood(loaded, texts, reduction=reduction, rows=rows)
  else:
    raise errors.unknown(
      "There is no method", method, ("pll", "log_likelihood")
    )
  good, bad = scores[0::2], scores[1::2]
  if out is not None:
    records.write_lines(out, _lines(items, good, bad))
  told = {"method": method, "reduction": reduction}
  if method == "pll":
    told["variant"] = variant
  return aggregate(items, good, bad) | told


def aggregate(
  items: Sequence[Pair], good: Sequence[float], bad: Sequence[float]
) -> dict[str, Any]:
  """Accuracies from scores; ties are wrong.

  Returns:
    `accuracy` (the plain mean over paradigms) with `accuracy_error`, `count`
    and `ties`, and `by_uid` and `by_term`: name -> accuracy.
  """
  good, bad = np.asarray(good, np.float64), np.asarray(bad, np.float64)
  if not np.all(np.isfinite(good) & np.isfinite(bad)):
    raise errors.UserError("Some sentences have no finite score.")
  right = good > bad
  groups: dict[str, list[int]] = {}
  for index, item in enumerate(items):
    groups.setdefault(item.uid, []).append(index)
  by_uid = {uid: float(right[at].mean()) for uid, at in sorted(groups.items())}
  terms: dict[str, list[float]] = {}
  for uid, at in sorted(groups.items()):
    terms.setdefault(items[at[0]].term, []).append(by_uid[uid])
  # The mean of independent shares: its variance is the mean of theirs over n.
  errors_ = [binomial_error(by_uid[uid], len(groups[uid])) for uid in by_uid]
  return {
    "accuracy": float(np.mean(list(by_uid.values()))),
    "accuracy_error": float(np.linalg.norm(errors_) / len(errors_)),
    "count": len(items),
    "ties": int(np.sum(good == bad)),
    "by_uid": by_uid,
    "by_term": {term: float(np.mean(v)) for term, v in sorted(terms.items())},
  }


def _first(items: Sequence[Pair], most: int) -> list[Pair]:
  """The first pairs of each paradigm."""
  seen: Counter[str] = Counter()
  found = []
  for item in items:
    seen[item.uid] += 1
    if seen[item.uid] <= most:
      found.append(item)
  return found


def _method(model) -> str:
  if "masked_lm" in model.heads:
    return "pll"
  if "causal_lm" in model.heads:
    return "log_likelihood"
  known = ", ".join(sorted(model.heads)) or "none"
  raise errors.UserError(
    "Minimal pairs need a model with the head 'masked_lm' or 'causal_lm'; this "
    f"one has: {known}."
  )


def _pair(row: dict[str, Any], where: str, stem: str) -> Pair:
  for key in ("sentence_good", "sentence_bad"):
    if key not in row:
      raise errors.unknown(f"{where} has no field", key, row)
    if not isinstance(row[key], str):
      raise errors.UserError(
        f"{where}: '{key}' should be a string, found {str(row[key])[:40]}."
      )
  uid = str(row.get("UID", stem))
  return Pair(
    row["sentence_good"],
    row["sentence_bad"],
    uid,
    str(row.get("linguistics_term", uid)),
  )


def _lines(items, good, bad) -> Iterable[dict[str, Any]]:
  return [
    {**item._asdict(), "score_good": float(g), "score_bad": float(b)}
    for item, g, b in zip(items, good, bad)
  ]
