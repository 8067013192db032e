"""predictions.jsonl: what a model said of each item, and its scores.

The first line tells the kind and the class names, each other line one item:

  {"kind": "classification", "classes": ["neg", "pos"]}
  {"row": 0, "label": "pos", "prediction": "neg", "probabilities": [0.7, 0.3]}

regression has numbers instead of names and no probabilities, and tagging one
line a sentence with lists of tags. The metrics can be computed from the file
without the model.
"""

import itertools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special

from jaxlm import errors, files
from jaxlm.evaluation import metrics

_FIELDS = {"label", "prediction"}


def make(found, kind: str, classes: Sequence[str]) -> list[dict[str, Any]]:
  """One record an item, or for tagging one a row.

  Args:
    found: `predict.Predictions`.
    kind: classification, regression or tagging.
    classes: the name of each output.
  """
  if kind == "regression":
    scores = found.outputs[:, 0]
    return [
      {"row": int(row), "label": float(label), "prediction": float(score)}
      for row, label, score in zip(found.rows, found.labels, scores)
    ]
  best = np.argmax(found.outputs, axis=-1)
  named = [
    (int(row), classes[label], classes[index])
    for row, label, index in zip(found.rows, found.labels, best)
  ]
  if kind == "tagging":
    rows = itertools.groupby(named, key=lambda item: item[0])
    return [_sentence(row, list(items)) for row, items in rows]
  shares = scipy.special.softmax(found.outputs.astype(np.float64), axis=-1)
  return [
    {
      "row": row,
      "label": label,
      "prediction": prediction,
      "probabilities": [round(float(p), 6) for p in share],
    }
    for (row, label, prediction), share in zip(named, shares)
  ]


def _sentence(row, items):
  return {
    "row": row,
    "label": [label for _, label, _ in items],
    "prediction": [prediction for _, _, prediction in items],
  }


def write(path, kind: str, classes: Sequence[str], lines, *, replace=False):
  """Writes a predictions file; see `write_lines`."""
  head = {"kind": kind, "classes": list(classes)}
  write_lines(path, [head, *lines], replace=replace)


def write_lines(
  path, lines: Sequence[Mapping[str, Any]], *, replace: bool = False
) -> None:
  """Writes JSON lines, atomically.

  Raises:
    UserError: the file exists, holds something else and is not to be
      replaced.
  """
  path = pathlib.Path(path)
  text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
  if path.exists() and not (replace and path.is_file()):
    if path.is_file() and path.read_bytes() == text.encode():
      return
    raise errors.UserError(
      f"out: {path} exists and holds something else; remove it or name "
      "another file."
    )
  with files.replacing(path) as file:
    file.write(text)


def read(path) -> tuple[str, tuple[str, ...], list[dict[str, Any]]]:
  """(kind, classes, records) of a predictions file.

  Raises:
    UserError: no such file, or a line that is no record.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.UserError(f"There is no predictions file {path}.")
  lines = []
  with open(path, encoding="utf-8") as file:
    for number, line in enumerate(file, 1):
      try:
        record = json.loads(line)
      except json.JSONDecodeError as error:
        raise errors.UserError(f"{path}, line {number}: {error}.") from error
      wanted = _FIELDS if number > 1 else {"kind", "classes"}
      if not isinstance(record, dict) or not wanted <= set(record):
        raise errors.UserError(
          f"{path}, line {number}: expected an object with "
          f"{' and '.join(sorted(wanted))}, found {_start(line)}."
        )
      lines.append(record)
  if len(lines) < 2:
    raise errors.UserError(f"{path} holds no predictions.")
  return lines[0]["kind"], tuple(lines[0]["classes"]), lines[1:]


def score(kind: str, classes: Sequence[str], lines) -> dict[str, float]:
  """The metrics of records."""
  labels = [line["label"] for line in lines]
  predictions = [line["prediction"] for line in lines]
  if kind == "classification":
    return metrics.classification(labels, predictions, classes)
  if kind == "regression":
    return metrics.regression(labels, predictions)
  if kind == "tagging":
    return metrics.tagging(labels, predictions)
  raise errors.unknown(
    "There is no metric for predictions of the kind",
    kind,
    ("classification", "regression", "tagging"),
  )


def _start(line: str) -> str:
  return repr(line.strip()[:60])
