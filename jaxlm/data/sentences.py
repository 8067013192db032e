"""Sentences to embed: one a line, or pairs and triplets in columns.

TSV (without quoting), CSV and JSONL files and plain text, compressed or not.
No TensorFlow, unless a masked second view is asked for.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxlm import errors
from jaxlm.data import (
  _augment,
  _fields,
  _row_files,
  _sentence_arrays,
  _sentence_rows,
  _sentence_tasks,
  datasets,
  sources,
)
from jaxlm.data.prepared import Prepared
from jaxlm.data.tokenizer import Tokenizer


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
    groups: most anchors of a row, each with its other texts. More than 1 packs
      short texts, so that a batch of the same rows holds more anchors; a row
      is as long as one group may be.
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
  groups: int = 1
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
    tokenizer = _row_files.vocabulary(
      self, tokenizer, workdir, seed, found, report
    )
    encode = functools.partial(self._encode, tokenizer=tokenizer)
    train, held_out = _row_files.split(self, encode, seed)
    report(self._summary(train, held_out))
    making = _sentence_tasks.Making(
      copies=self.views // max(len(self.columns), 1),
      length=self.length * self.views,
      tokenizer=tokenizer,
      masked=_fields.masked_view(self, tokenizer, self.length * self.views),
      augment=self.augment,
    )
    facts = {
      **_row_files.facts(self, tokenizer, found, train, held_out),
      "texts_a_row": self.views,
      "cut_texts": train.cut,
      "blank_rows": train.blank,
    }
    train, held_out = (
      texts and _sentence_arrays.grouped(texts, making, self.groups)
      for texts in (train, held_out)
    )
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
    return _row_files.tokenizer_report(self, tokenizer, workdir, seed, report)

  @property
  def views(self) -> int:
    """Texts of a row, K."""
    columns = max(len(self.columns), 1)
    return columns * (self.copies or (2 if columns == 1 else 1))

  def _check(self) -> None:
    _fields.check_whole(self, ("length", "groups"))
    _augment.check(self.augment)
    _row_files.check(self)
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
    _fields.check_masking(self, "makes a masked view")

  @property
  def layout(self) -> _sentence_rows.Layout:
    """Where files keep their texts."""
    columns = tuple(self.columns)
    return _sentence_rows.Layout(columns, self.header, self.delimiter)

  def all_texts(self) -> Iterator[str]:
    """The texts of the training files."""
    for row in _sentence_rows.read(self.files, "data.files", self.layout):
      yield from row.texts

  def _encode(self, files, key, tokenizer):
    _row_files.check_room(self.length, tokenizer.overhead())
    rows = _sentence_rows.read(files, key, self.layout)
    data = _sentence_arrays.encode(rows, tokenizer, self.length)
    if not data.rows:
      raise errors.UserError(f"{key}='{files}': every row is blank.")
    return data

  def _summary(self, train, held_out) -> str:
    return _row_files.summary(
      "Sentences",
      train,
      held_out,
      cut=f"texts longer than {self.length} tokens were cut",
      blank="rows with a blank text were left out",
    )
