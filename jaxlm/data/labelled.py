"""Labelled data for fine-tuning: classes, scores or tags from files.

TSV (without quoting), CSV, JSONL and CoNLL files, plain or compressed; single
texts, pairs and tagged words. No TensorFlow.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm import errors
from jaxlm.data import (
  _labelled_arrays,
  _labelled_rows,
  _labelled_tasks,
  _row_files,
  datasets,
  sources,
)
from jaxlm.data._labelled_rows import Row
from jaxlm.data.prepared import Prepared
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.types import Task

TASKS = ("classification", "regression", "tagging")


@datasets.register(
  "labelled", paper="arXiv:1810.04805", example={"files": "train.tsv"}
)
@dataclasses.dataclass(frozen=True)
class Labelled:
  """Rows with a label.

  Attributes:
    files: training files: a path, folder, pattern, or several with commas.
    validation_files: held-out files.
    text: column or field of the text; of CoNLL files the column of the word,
      by number (by name in .conllu), the first by default.
    pair: column or field of the second text; "" for none.
    label: column or field of the label; of CoNLL files the last by default.
    header: whether the first row of TSV and CSV files names the columns;
      without, columns are given by number, from 0.
    delimiter: between columns; by default tab for .tsv and .txt, comma for
      .csv. Tab-separated files know no quotes.
    task: "classification", "regression" or "tagging".
    length: tokens a row, special tokens included. Longer texts are cut, pairs
      from the longer text; tagged sentences go on in a further row.
    validation_share: share of the rows held out by chance where there are no
      validation files; 0 for no validation.
    classes: labels in the order of their ids; by default those of the
      training files, sorted.
    balanced: as many rows of each class in a training batch; an epoch is then
      a number of rows, not every row once.
  """

  files: str = ""
  validation_files: str = ""
  text: str | int = "sentence"
  pair: str | int = ""
  label: str | int = "label"
  header: bool = True
  delimiter: str = ""
  task: str = "classification"
  length: int = 128
  validation_share: float = 0.1
  classes: Sequence[str] = ()
  balanced: bool = False
  packs = False  # a row is one text, or one pair

  def prepare(
    self,
    *,
    tokenizer: Tokenizer | Mapping[str, Any],
    workdir,
    batch_size: int,
    seed: int,
    report: Callable[[str], None] = print,
  ) -> Prepared:
    """Reads, tokenizes and splits the rows.

    Args:
      tokenizer: a Tokenizer, or a spec: then a vocabulary is trained on the
        training texts, or read.
      workdir: the tokenizer is kept in its folder `tokenizer`.
      batch_size: rows of a global batch.
      seed: of the held-out share and of a vocabulary's sample.
      report: told what was read, cut and skipped.

    Raises:
      UserError: files, rows or labels that do not fit, with file and line.
    """
    self._check()
    found = sources.fingerprint(self.files)
    tokenizer = _row_files.vocabulary(
      self, tokenizer, workdir, seed, found, report
    )
    classes, counts = self._classes()
    encode = functools.partial(
      self._encode, tokenizer=tokenizer, classes=classes
    )
    train, held_out = _row_files.split(self, encode, seed)
    report(self._summary(train, held_out))
    facts = {
      **_row_files.facts(self, tokenizer, found, train, held_out),
      "task": self.task,
      "cut_rows": train.cut,
      "blank_rows": train.blank,
    }
    if self.task != "regression":
      facts |= {"classes": list(classes), "labels": counts}
    fixed = (batch_size, self.length, tokenizer.pad_id)
    task = (
      _labelled_tasks.balanced if self.balanced else (_labelled_tasks.training)
    )
    return Prepared(
      tokenizer,
      task(train, *fixed),
      held_out and _labelled_tasks.evaluation(held_out, *fixed, "validation"),
      facts,
    )

  def tokenizer_report(
    self,
    *,
    tokenizer: Tokenizer | Mapping[str, Any],
    workdir,
    seed: int,
    report: Callable[[str], None] = print,
  ) -> dict[str, Any]:
    """Makes the vocabulary where it is missing, and measures how it fits."""
    self._check()
    return _row_files.tokenizer_report(self, tokenizer, workdir, seed, report)

  def evaluation(
    self,
    files,
    *,
    tokenizer: Tokenizer,
    batch_size: int,
    classes: Sequence[str] = (),
    key: str = "files",
  ) -> Task:
    """Other files laid out alike, as a Task in the order of their rows.

    Args:
      files: what `data.files` may be.
      tokenizer: of the model.
      batch_size: rows of a batch; the last is filled up with weight 0.
      classes: label strings in the order of the model's ids; none for scores.
      key: what messages call `files`.

    Raises:
      UserError: files, rows or labels that do not fit, with file and line.
    """
    self._check()
    if bool(classes) == (self.task == "regression"):
      raise ValueError(f"classes {classes!r} do not go with '{self.task}'")
    data = self._encode(files, key, tokenizer, tuple(classes))
    return _labelled_tasks.evaluation(
      data, batch_size, self.length, tokenizer.pad_id, "evaluation"
    )

  def _check(self) -> None:
    if self.task not in TASKS:
      raise errors.unknown("data.task cannot be", self.task, TASKS)
    _row_files.check(self)
    if self.balanced and self.task != "classification":
      raise errors.UserError(
        f"data.balanced=True: a {self.task} has no classes of rows; set it to "
        "False."
      )
    if self.task == "tagging" and self.pair != "":
      raise errors.UserError(
        f"data.pair='{self.pair}': tagging reads one text, set it to ''."
      )

  @property
  def layout(self) -> _labelled_rows.Layout:
    """Where files keep texts and labels."""
    return _labelled_rows.Layout(
      self.text,
      self.pair,
      self.label,
      self.header,
      self.delimiter,
      self.task == "tagging",
    )

  def _rows(self, files, key):
    return _labelled_rows.read(files, key, self.layout)

  def all_texts(self) -> Iterator[str]:
    """The texts of the training files, tagged words between spaces."""
    for row in self._rows(self.files, "data.files"):
      yield row.text if isinstance(row.text, str) else " ".join(row.text)
      if row.pair:
        yield row.pair

  def _classes(self) -> tuple[tuple[str, ...], dict[str, int]]:
    """Class names in the order of their ids, and how often each occurs."""
    if self.task == "regression":
      return (), {}
    counts: Counter[str] = Counter()
    for row in self._rows(self.files, "data.files"):
      counts.update([row.label] if isinstance(row.label, str) else row.label)
    classes = tuple(map(str, self.classes)) or _sorted(counts)
    if len(classes) < 2:
      raise errors.UserError(
        f"data.label='{self.label}': '{self.files}' has one class only, "
        f"'{classes[0]}'. Is it the right column?"
      )
    return classes, {name: counts[name] for name in classes}

  def _encode(self, files, key, tokenizer, classes):
    _row_files.check_room(self.length, tokenizer.overhead(self.pair != ""))
    rows = self._rows(files, key)
    ids = {name: i for i, name in enumerate(classes)}
    if self.task == "tagging":
      data = _labelled_arrays.tagged(
        rows,
        tokenizer,
        self.length,
        lambda row: [_class_id(row, tag, ids) for tag in row.label],
      )
    else:
      scored = self.task == "regression"
      data = _labelled_arrays.texts(
        rows,
        tokenizer,
        self.length,
        _labelled_rows.score
        if scored
        else lambda row: _class_id(row, row.label, ids),
        np.float32 if scored else np.int32,
      )
    if not data.rows:
      raise errors.UserError(f"{key}='{files}': every text is blank.")
    return data

  def _summary(self, train, held_out) -> str:
    tagging = self.task == "tagging"
    done = "go on in a further row" if tagging else "were cut"
    return _row_files.summary(
      "Labelled data",
      train,
      held_out,
      cut=f"longer than {self.length} tokens {done}",
      blank="blank rows were left out",
    )


def _class_id(row: Row, label: str, ids: Mapping[str, int]) -> int:
  if label not in ids:
    raise errors.unknown(f"{row.where} has an unknown label", label, ids)
  return ids[label]


def _sorted(labels) -> tuple[str, ...]:
  """By number where all labels are integers, else by text."""
  try:
    return tuple(sorted(labels, key=int))
  except ValueError:
    return tuple(sorted(labels))
