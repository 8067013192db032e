"""Sentences to embed: one a line, or pairs and triplets in columns.

TSV (without quoting), CSV and JSONL files and plain text, compressed or not.
No TensorFlow, unless a masked second view is asked for.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm import errors
from jaxlm import files as io
from jaxlm.data import (
  _augment,
  _sentence_arrays,
  _sentence_rows,
  _sentence_tasks,
  _vocabulary,
  datasets,
  order,
  sources,
)
from jaxlm.data.corruption import corruptions
from jaxlm.data.prepared import Prepared
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.data.tokenizers import reporting

_SPLIT = 2**62  # stands for an epoch that training never reaches


@datasets.register(
  "sentences", paper="arXiv:2104.08821", example={"files": "sentences.txt"}
)
@dataclasses.dataclass(frozen=True)
class Sentences:
  """Texts that belong together, packed in one row, each a document of its own.

  The first text of a row is the anchor, the second its positive, further ones
  its hard negatives, which may be blank. So all views of a text are of one
  row, on one device and in one microbatch.

  Attributes:
    files: training files: a path, folder, pattern, or several with commas.
    validation_files: held-out files.
    columns: columns or fields of the texts, by name or number; () for files
      of one sentence a line.
    header: whether the first row of TSV and CSV files names the columns;
      without, columns are given by number, from 0.
    delimiter: between columns; by default tab for .tsv and .txt, comma for
      .csv. Tab-separated files know no quotes.
    length: tokens of a text, special tokens included; longer ones are cut. A
      row has as many times the tokens as it has texts.
    copies: how often each text stands in its row; 0: twice where a row is one
      text (unsupervised SimCSE, whose views differ by dropout), else once.
    masking: a corruption that makes a masked second view of the rows, for an
      auxiliary masked LM, such as dict(kind="masking", rate=0.15).
    augment: other wordings of every text and copy, for the contrast alone:
      name -> settings, such as dict(delete_words=dict(rate=0.2), reorder={});
      also delete_spans.
    validation_share: share of the rows held out by chance where there are no
      validation files; 0 for no validation.
  """

  files: str = ""
  validation_files: str = ""
  columns: Sequence[str | int] = ()
  header: bool = True
  delimiter: str = ""
  length: int = 32
  copies: int = 0
  masking: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  augment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  validation_share: float = 0.1
  packs = True

  def prepare(
    self,
    *,
    tokenizer: Tokenizer | Mapping[str, Any],
    workdir,
    batch_size: int,
    seed: int,
    report: Callable[[str], None] = print,
  ) -> Prepared:
    """Reads, tokenizes and splits the rows; see `Labelled.prepare`.

    Raises:
      UserError: files, rows or settings that do not fit, with file and line.
    """
    self._check()
    found = sources.fingerprint(self.files)
    tokenizer = self._vocabulary(tokenizer, workdir, seed, found, report)
    train = self._encode(self.files, "data.files", tokenizer)
    train, held_out = self._split(train, tokenizer, seed)
    report(_summary(train, held_out, self.length))
    making = _sentence_tasks.Making(
      copies=self.views // max(len(self.columns), 1),
      length=self.length * self.views,
      tokenizer=tokenizer,
      masked=self._masked(tokenizer),
      augment=self.augment,
    )
    facts = {
      "vocab_size": tokenizer.vocab_size,
      "tokenizer_sha256": tokenizer.sha256,
      "length": self.length,
      "texts_a_row": self.views,
      "sources": found,
      "validation_sources": self.validation_files
      and sources.fingerprint(self.validation_files),
      "rows": train.rows,
      "validation_rows": held_out.rows if held_out else 0,
      "cut_texts": train.cut,
      "blank_rows": train.blank,
    }
    return Prepared(
      tokenizer,
      _sentence_tasks.training(train, batch_size, making),
      held_out and _sentence_tasks.evaluation(held_out, batch_size, making),
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
    found = sources.fingerprint(self.files)
    made = self._vocabulary(tokenizer, workdir, seed, found, report)
    texts = (text for text in self._documents() if text.strip())
    return {"measured_on": "data.files"} | reporting.report(made, texts)

  @property
  def views(self) -> int:
    """Texts of a row, K."""
    columns = max(len(self.columns), 1)
    return columns * (self.copies or (2 if columns == 1 else 1))

  def _check(self) -> None:
    _augment.check(self.augment)
    if not 0 <= self.validation_share < 1:
      raise errors.UserError(
        "data.validation_share should be at least 0 and below 1, found "
        f"{self.validation_share}."
      )
    if self.copies < 0 or self.views < 2:
      raise errors.UserError(
        f"data.copies={self.copies} makes {self.views} text a row; a contrast "
        "needs two: name further data.columns, or set data.copies=2."
      )
    if self.copies > 1 and len(self.columns) > 1:
      raise errors.UserError(
        f"data.copies={self.copies} is for single texts, but data.columns "
        f"names {len(self.columns)}: set it to 0."
      )

  @property
  def _layout(self) -> _sentence_rows.Layout:
    columns = tuple(self.columns)
    return _sentence_rows.Layout(columns, self.header, self.delimiter)

  def _vocabulary(self, tokenizer, workdir, seed, found, report):
    return _vocabulary.obtain(
      tokenizer,
      pathlib.Path(workdir) / "tokenizer",
      documents=self._documents,
      sources=[*found, {"sha256": io.digest(self._layout)}],
      seed=seed,
      report=report,
    )

  def _documents(self):
    for row in _sentence_rows.read(self.files, "data.files", self._layout):
      yield from row.texts

  def _encode(self, files, key, tokenizer):
    room = self.length - tokenizer.overhead()
    if room < 1:
      raise errors.UserError(
        f"data.length={self.length} leaves no room for text beside "
        f"{tokenizer.overhead()} special tokens."
      )
    rows = _sentence_rows.read(files, key, self._layout)
    data = _sentence_arrays.encode(rows, tokenizer, self.length)
    if not data.rows:
      raise errors.UserError(f"{key}='{files}': every row is blank.")
    return data

  def _split(self, train, tokenizer, seed):
    """(training rows, held-out rows or None)."""
    if self.validation_files:
      held = self.validation_files
      return train, self._encode(held, "data.validation_files", tokenizer)
    held = round(self.validation_share * train.rows)
    if not held:
      return train, None
    rows = order.permutation(seed, _SPLIT, train.rows)
    apart = train.take(np.sort(rows[:held]))._replace(cut=0, blank=0)
    return train.take(np.sort(rows[held:])), apart

  def _masked(self, tokenizer):
    if not self.masking:
      return None
    if self.masking.get("kind") != "masking":
      raise errors.unknown(
        "data.masking makes a masked view; it cannot be of the kind",
        str(self.masking.get("kind")),
        ("masking",),
      )
    from jaxlm.data._masked_view import masked_view

    corruption = corruptions.build(self.masking)
    return masked_view(corruption, tokenizer, self.length * self.views)


def _summary(train, held_out, length: int) -> str:
  text = f"Sentences: {train.rows:,} training rows"
  if held_out:
    text += f", {held_out.rows:,} held out"
  parts = (train, held_out) if held_out else (train,)
  cut, blank = (sum(getattr(p, n) for p in parts) for n in ("cut", "blank"))
  if cut:
    text += f"; {cut:,} texts longer than {length} tokens were cut"
  if blank:
    text += f"; {blank:,} rows with a blank text were left out"
  return f"{text}."
