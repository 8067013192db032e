"""A fine-tuned model over labelled data: outputs, predictions, scores."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxlm import errors
from jaxlm.evaluation import _model, language, records
from jaxlm.types import Task

HEADS = {
  "classification": "classify",
  "regression": "regress",
  "tagging": "tag",
}
KINDS = (*HEADS, *language.KINDS)


class Predictions(NamedTuple):
  """Outputs of a head at every labelled place, in the order of the rows.

  Attributes:
    rows: int64 [items], the row of the data set.
    places: int64 [items], the sentence or token within the row.
    labels: int32 or float32 [items].
    outputs: float32 [items, classes].
  """

  rows: np.ndarray
  places: np.ndarray
  labels: np.ndarray
  outputs: np.ndarray


def predict(model, variables, task: Task, head: str) -> Predictions:
  """Runs a head over one epoch of labelled data.

  Every row counts once: rows that only fill up the last batch are dropped,
  and so is what has no weight.

  Args:
    model: a Linen module with that head.
    variables: {"params": ...}.
    task: data in order, such as the validation Task of labelled data.
    head: name of a head that reads `labels` or `tags`.

  Raises:
    UserError: no such head, data without labels, or outputs that are not
      numbers.
  """
  _model.require_head(model, head, f"Predicting '{task.name}'")
  label, weight = _label_keys(task)
  variables, static = _model.on_device(variables), _model.Static(model)
  parts = []
  for first, batch in epoch(task):
    outputs = np.asarray(_model.apply_head(static, head, variables, batch))
    row, place = np.nonzero(np.asarray(batch[weight]) > 0)
    labels = np.asarray(batch[label])[row, place]
    parts.append((row + first, place, labels, outputs[row, place]))
  found = Predictions(*(np.concatenate(column) for column in zip(*parts)))
  bad = np.sum(~np.isfinite(found.outputs).all(axis=-1))
  if bad:
    raise errors.UserError(
      f"{bad} of {len(found.outputs)} outputs of the head '{head}' are not "
      "finite: the model is broken or its compute dtype too narrow."
    )
  return found


def epoch(task: Task, *, seed: int = 0, batches: int = 0):
  """(index of the first row, batch) of one epoch, each row weighted once.

  Args:
    task: row r of step s is entry s * B + r.
    seed: seed of the task, for corruption.
    batches: stop after as many; 0 for the whole epoch.
  """
  size = task.batch_spec["inputs"].shape[0]
  steps = math.ceil(task.rows / size)
  for step in range(min(steps, batches) if batches else steps):
    batch = dict(task.batch_at(seed, step))
    beyond = np.arange(step * size, (step + 1) * size) >= task.rows
    if beyond.any():
      for key in batch:
        if key.endswith("weights"):
          batch[key] = np.where(beyond[:, None], 0.0, batch[key]).astype(
            np.float32
          )
    yield step * size, batch


def evaluate(
  loaded,
  task: Task,
  kind: str | None = None,
  *,
  classes: Sequence[str] = (),
  head: str | None = None,
  out=None,
  replace: bool = False,
  seed: int = 0,
  batches: int = 0,
) -> dict[str, float]:
  """Scores a model on a task.

  Args:
    loaded: a `jaxlm.loading.Loaded`, or alike.
    task: the data, such as `Prepared.validation`.
    kind: classification, regression, tagging, masked_lm or causal_lm; what
      the model was fine-tuned for where None.
    classes: the class names of the data, in the order of their ids; the
      model's own where empty. Names decide where the two orders differ.
    head: name of the head; the usual one of the kind where None.
    out: file for the predictions (JSON lines); the metrics are then computed
      from what it holds. Not for language models.
    replace: let `out` take the place of other predictions.
    seed: seed of the masking.
    batches: batches of a language-model evaluation; 0 for one epoch.

  Returns:
    The metrics of `metrics.py` or `language.py`.

  Raises:
    UserError: an unknown kind, a model without the head, data that do not fit
      it, or an `out` that holds something else.
  """
  kind = kind or loaded.task
  if kind not in KINDS:
    raise errors.unknown("There is no evaluation of the kind", str(kind), KINDS)
  if kind in language.KINDS:
    if out is not None:
      raise errors.UserError(
        f"out: an evaluation of the kind '{kind}' has no predictions to write."
      )
    return language.measure(
      loaded.model,
      loaded.variables,
      epoch(task, seed=seed, batches=batches),
      kind,
    )
  found = predict(loaded.model, loaded.variables, task, head or HEADS[kind])
  if not len(found.rows):
    raise errors.UserError(f"The data '{task.name}' have no labelled item.")
  names = _names(loaded.labels, classes, found, kind)
  if kind != "regression":
    found = found._replace(labels=_aligned(found.labels, classes, names))
  lines = records.make(found, kind, names)
  if out is not None:
    records.write(out, kind, names, lines, replace=replace)
    kind, names, lines = records.read(out)
  return records.score(kind, names, lines)


def _label_keys(task: Task) -> tuple[str, str]:
  for label, weight in (("labels", "label_weights"), ("tags", "tag_weights")):
    if label in task.batch_spec:
      return label, weight
  raise errors.UserError(
    f"The data '{task.name}' have no labels to score against; they give "
    f"{', '.join(sorted(task.batch_spec))}."
  )


def _names(labels, classes, found: Predictions, kind) -> tuple[str, ...]:
  """The class name of each output."""
  if kind == "regression":
    return ()
  width = found.outputs.shape[-1]
  # 'LABEL_0' is what Hugging Face writes where nobody named the classes.
  unnamed = not labels or all(
    name == f"LABEL_{i}" for i, name in enumerate(labels)
  )
  if unnamed and classes and len(classes) != width:
    raise errors.UserError(
      f"The data have {len(classes)} classes ({', '.join(classes)}) but the "
      f"model tells {width} apart."
    )
  if unnamed:
    return tuple(classes or labels or map(str, range(width)))
  return tuple(labels)


def _aligned(labels, classes, names) -> np.ndarray:
  """Label ids of the data as ids of the model, matched by name."""
  if not classes or tuple(classes) == tuple(names):
    if labels.size and labels.max() >= len(names):
      raise errors.UserError(
        f"The data have a class {labels.max()} but the model tells "
        f"{len(names)} apart: {', '.join(names)}."
      )
    return labels
  for name in classes:
    if name not in names:
      raise errors.unknown(
        "The data have a class that the model has not,", name, names
      )
  table = np.array([names.index(name) for name in classes], np.int32)
  return table[labels]
