"""Spans of long documents: an anchor and positives near it (arXiv:2006.03659).

No TensorFlow, unless anchors are masked.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxlm import errors
from jaxlm.data import (
  _fields,
  _sentence_tasks,
  _span_draws,
  _span_rows,
  datasets,
)
from jaxlm.data.packed import Packed
from jaxlm.data.prepared import Prepared
from jaxlm.data.tokenizer import Tokenizer


@datasets.register(
  "spans", paper="arXiv:2006.03659", example={"files": "corpus/*.txt"}
)
@dataclasses.dataclass(frozen=True)
class Spans:
  """Spans of one document, packed in one row, drawn anew at every visit.

  A row is an anchor and its positives, each a document of its own, which
  begins in its middle. The anchors of a document are rows that follow each
  other, so that one batch holds them all: they are hard negatives. They lie a
  longest span or more apart, and documents without the room are left out.

  Attributes:
    files, validation_files, validation_share, format, field, documents: as of
      `Packed`.
    length: most tokens of a span, special tokens included.
    shortest: fewest, without them.
    anchors: of a document, at every visit.
    positives: of an anchor.
    where: 'anywhere', positives touch the anchor, overlap it or lie in it;
      'inside' or 'beside' it.
    masking: a corruption that hides tokens of the anchors, such as
      dict(kind="masking", rate=0.15); {}: none.
  """

  files: str | Sequence[str] = ""
  validation_files: str | Sequence[str] = ""
  validation_share: float = 0.0
  format: str = "auto"
  field: str = "text"
  documents: str = "blank_line"
  length: int = 512
  shortest: int = 32
  anchors: int = 2
  positives: int = 2
  where: str = "anywhere"
  masking: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  packs = True

  def __post_init__(self):
    whole = ("length", "shortest", "anchors", "positives")
    _fields.check_whole(self, whole)
    if self.where not in _span_draws.POSITIVES:
      raise errors.unknown(
        "data.where cannot be", self.where, _span_draws.POSITIVES
      )
    _fields.check_masking(self, "hides tokens of anchors")
    self._text  # noqa: B018, tells what is wrong with files' settings

  @property
  def _text(self) -> Packed:
    """What reads the files."""
    names = ("files", "validation_files", "validation_share")
    names += ("format", "field", "documents")
    return Packed(**{name: getattr(self, name) for name in names})

  def prepare(
    self,
    *,
    tokenizer: Tokenizer | Mapping[str, Any],
    workdir,
    batch_size: int,
    seed: int,
    report: Callable[[str], None] = print,
  ) -> Prepared:
    """Reads, tokenizes and splits the documents.

    Args:
      tokenizer: a Tokenizer, or a spec of one that is trained on them.
      workdir: holds the folder `tokenizer`.
      batch_size: rows of a global batch, a multiple of `anchors`.
      seed: of the sample that a vocabulary is trained on.
      report: told what is made.

    Raises:
      UserError: unreadable files, settings that do not fit, or no document of
        the length that the anchors need.
    """
    self._check_batch(batch_size)
    files = self._text.fingerprints()
    tokenizer = self._text.vocabulary(tokenizer, workdir, seed, files, report)
    making = self._making(tokenizer)
    least = _span_draws.needed(self.anchors, making.longest)
    found = _span_rows.tokenized(
      self._text.texts(), tokenizer, self.anchors, least, workdir
    )
    for split, data in found.items():
      report(_summary(split, data, least))
    found = {split: data for split, data in found.items() if data.rows}
    _check_any("train" in found, self, least)
    tasks = {
      split: make(found[split], batch_size, making, self.anchors)
      for split, make in _TASKS.items()
      if split in found
    }
    return Prepared(
      tokenizer,
      tasks["train"],
      tasks.get("validation"),
      self._facts(tokenizer, files, found, least),
    )

  def tokenizer_report(self, **given) -> dict[str, Any]:
    """Makes the vocabulary where it is missing, and measures how it fits."""
    return self._text.tokenizer_report(**given)

  def _facts(self, tokenizer, files, found, least) -> dict[str, Any]:
    return {
      "vocab_size": tokenizer.vocab_size,
      "tokenizer_sha256": tokenizer.sha256,
      "sources": files,
      "length": self.length,
      "texts_a_row": 1 + self.positives,
      "tokens_a_document_needs": least,
      **{
        split: {
          "documents": len(data.starts),
          "tokens": int(data.lengths.sum()),
          "short_documents": data.short,
        }
        for split, data in found.items()
      },
    }

  def _making(self, tokenizer) -> _span_rows.Making:
    longest = self.length - tokenizer.overhead()
    if self.shortest > longest:
      raise errors.UserError(
        f"data.shortest is {self.shortest}, but data.length={self.length} "
        f"leaves {longest} tokens beside {tokenizer.overhead()} special ones."
      )
    return _span_rows.Making(
      self.positives,
      self.shortest,
      longest,
      _span_draws.POSITIVES[self.where],
      tokenizer,
      _fields.masked_view(self, tokenizer, self.length),
    )

  def _check_batch(self, batch_size: int) -> None:
    if batch_size % self.anchors:
      raise errors.UserError(
        f"config.batch_size is {batch_size}, which data.anchors="
        f"{self.anchors} does not divide: a batch holds all anchors of a "
        "document."
      )


def _check_any(found: bool, data: Spans, least: int) -> None:
  if not found:
    raise errors.UserError(
      f"data.files='{data.files}' holds no document of {least:,} tokens, which "
      f"data.anchors={data.anchors} of data.length={data.length} need. Set a "
      "smaller length, fewer anchors, or data.documents='whole' (a file is a "
      "document)."
    )


def _train(data, size, making, anchors):
  task = _sentence_tasks.training(data, size, making, together=anchors)
  return task._replace(longest=making.width)


def _validation(data, size, making, anchors):
  task = _sentence_tasks.evaluation(data, size, making)
  return task._replace(longest=making.width)


_TASKS = {"train": _train, "validation": _validation}


def _summary(split: str, data: _span_rows.Documents, least: int) -> str:
  text = f"Spans: {split} {len(data.starts):,} documents, {data.rows:,} anchors"
  if data.short:
    text += f"; {data.short:,} of fewer than {least:,} tokens were left out"
  return f"{text}."
