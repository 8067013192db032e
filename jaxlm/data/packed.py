"""Raw text, packed: what pre-training reads.

Files become a vocabulary, a cache of packed rows and two Tasks. Each stage is
skipped, and says so, when the hashes of its inputs have not changed. No
TensorFlow until the Tasks are made.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from jaxlm import errors
from jaxlm import files as io
from jaxlm.data import (
  _fields,
  _vocabulary,
  datasets,
  sources,
  tasks,
)
from jaxlm.data import (
  cache as caches,
)
from jaxlm.data.arrangements import arrangements
from jaxlm.data.corruption import corruptions
from jaxlm.data.orders import orders
from jaxlm.data.prepared import Prepared
from jaxlm.data.tokenizer import Tokenizer

Report = Callable[[str], None]
Progress = Callable[[str, int], None]


@datasets.register(
  "packed", paper="arXiv:2107.02027", example={"files": "corpus/*.txt"}
)
@dataclasses.dataclass(frozen=True)
class Packed:
  """Documents packed into rows and corrupted anew at every visit.

  Attributes:
    files: text, JSONL or Parquet: a path, folder, pattern, or several.
    validation_files: held-out files; "" to hold out a share of `files`.
    validation_share: share of documents held out, chosen by the hash of their
      text, so the choice is stable and copies stay together; 0 for none.
    format, field, documents: how files are read (`sources.documents`).
    length: tokens that the model reads, L.
    arrangement: how documents become rows.
    order: which rows a training step takes; by default all, shuffled anew in
      each epoch.
    corruption: what is hidden of a row.
    evaluation_corruption: the same for held-out rows; None: as in training.
    rows_per_shard: rows of one file of the cache.
  """

  files: str | Sequence[str] = ""
  validation_files: str | Sequence[str] = ""
  validation_share: float = 0.01
  format: str = "auto"
  field: str = "text"
  documents: str = "blank_line"
  length: int = 128
  arrangement: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"kind": "documents"}
  )
  corruption: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"kind": "masking"}
  )
  evaluation_corruption: Mapping[str, Any] | None = None
  order: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"kind": "shuffled"}
  )
  rows_per_shard: int = caches.ROWS_PER_SHARD
  mixes: ClassVar[bool] = True  # whether a mixture may take its rows

  @property
  def packs(self) -> bool:
    """Whether a row may hold documents that must not see each other."""
    return arrangements.build(self.arrangement).packs

  @property
  def rows_of_step(self) -> Callable:
    """Tells the rows of a training step; see `jaxlm.data.orders`."""
    return orders.build(self.order).rows_of_step

  @property
  def rows_of_entries(self) -> Callable | None:
    """The same of any places of its stream; None where it is no stream."""
    return getattr(orders.build(self.order), "rows_of_entries", None)

  def __post_init__(self):
    _fields.check_whole(self, ("length", "rows_per_shard"))
    if not 0 <= self.validation_share < 1:
      raise errors.UserError(
        f"data.validation_share is {self.validation_share}; it is at least 0 "
        "and below 1."
      )
    arrangements.build(self.arrangement)
    orders.build(self.order)
    training, evaluation = self.corruptions()
    widths = {part.text_length(self.length) for part in (training, evaluation)}
    if len(widths) > 1:
      raise errors.UserError(
        f"data.corruption '{self.corruption['kind']}' and "
        f"data.evaluation_corruption '{self.evaluation_corruption['kind']}' "
        "take rows of different widths, and there is one cache."
      )
    if self.packs and any(
      getattr(part, "single_segment", False) for part in (training, evaluation)
    ):
      raise errors.UserError(
        f"data.corruption '{self.corruption['kind']}' takes spans out of one "
        "text a row, but the arrangement packs several: set "
        "config.data.arrangement=dict(kind='stream') (running text) or "
        "dict(kind='blocks') (the same between brackets, as BART reads it), or "
        "config.data.arrangement.max_per_row=1."
      )

  def prepare(
    self,
    *,
    tokenizer: Tokenizer | Mapping[str, Any],
    workdir,
    batch_size: int,
    seed: int,
    report: Report = print,
    progress: Progress = lambda what, done: None,
  ) -> Prepared:
    """Makes what is missing of vocabulary and cache, and the Tasks.

    Args:
      tokenizer: a Tokenizer, or a spec: then a vocabulary is trained on the
        training documents, or read.
      workdir: holds the folders `tokenizer` and `cache`.
      batch_size: rows of a global batch.
      seed: of the sample that a vocabulary is trained on.
      report: told what is made and what is skipped.
      progress: called with ("tokens" or "rows", number so far).

    Raises:
      UserError: unreadable files, too little data for one batch, a vocabulary
        or a cache of the workdir that belongs to other inputs, or damage.
    """
    tokenizer, cache = self.build(
      tokenizer=tokenizer,
      workdir=workdir,
      seed=seed,
      report=report,
      progress=progress,
    )
    training, evaluation = self.corruptions()
    common = dict(tokenizer=tokenizer, batch_size=batch_size)
    common |= dict(length=self.length)
    train = tasks.make(
      cache,
      "train",
      training,
      name="train",
      rows_of=self.rows_of_step,
      **common,
    )
    held_out = None
    if cache.rows("validation"):
      held_out = tasks.make(
        cache,
        "validation",
        evaluation,
        name="validation",
        evaluation=True,
        **common,
      )
    facts = self.facts(tokenizer, cache)
    copies = tasks.copies_of(training, self.length)
    if copies > 1:
      facts["copies_of_a_row"] = copies
      facts["rows_with_copies"] = train.rows
    arranged = arrangements.build(self.arrangement)
    if relations := getattr(arranged, "relations", ()):
      facts["relations"] = list(relations)
    if read := tasks.files_of(training):
      facts["corruption_files"] = read
    return Prepared(tokenizer, train, held_out, facts)

  def build(
    self,
    *,
    tokenizer: Tokenizer | Mapping[str, Any],
    workdir,
    seed: int,
    report: Report = print,
    progress: Progress = lambda what, done: None,
  ) -> tuple[Tokenizer, caches.Cache]:
    """The vocabulary and the cache alone, without TensorFlow."""
    workdir = pathlib.Path(workdir)
    found = self.fingerprints()
    tokenizer = self.vocabulary(tokenizer, workdir, seed, found, report)
    cache = self._cache(tokenizer, workdir, found, report, progress)
    return tokenizer, cache

  def tokenizer_report(
    self, *, tokenizer, workdir, seed: int, report: Report = print
  ) -> dict[str, Any]:
    """Makes the vocabulary where it is missing, and measures how it fits.

    Measured on held-out documents where there are any, else on all.
    """
    from jaxlm.data.tokenizers import reporting

    found = self.fingerprints()
    made = self.vocabulary(tokenizer, workdir, seed, found, report)
    wanted = next((s for s, _ in self.texts() if s == "validation"), "train")
    texts = (text for split, text in self.texts() if split == wanted)
    return {"measured_on": wanted} | reporting.report(made, texts)

  def corruptions(self):
    """The corruption of training rows, and that of held-out rows."""
    evaluation = self.evaluation_corruption or self.corruption
    return corruptions.build(self.corruption), corruptions.build(evaluation)

  def fingerprints(self) -> dict[str, list[dict[str, Any]]]:
    """What identifies the files: role -> `sources.fingerprint`."""
    found = {"files": sources.fingerprint(self.files)}
    if self.validation_files:
      found["validation_files"] = sources.fingerprint(self.validation_files)
    return found

  def reading(self) -> dict[str, Any]:
    """How files are read: part of what vocabulary and cache depend on."""
    share = 0 if self.validation_files else self.validation_share
    return {
      "format": self.format,
      "field": self.field,
      "documents": self.documents,
      "validation_share": share,
    }

  def _documents(self, what) -> Iterator[str]:
    return sources.documents(
      what, format=self.format, field=self.field, documents=self.documents
    )

  def texts(self) -> Iterator[tuple[str, str]]:
    """(split, text) of every document."""
    share = self.reading()["validation_share"]
    for text in self._documents(self.files):
      yield ("validation" if held_out(text, share) else "train"), text
    if self.validation_files:
      for text in self._documents(self.validation_files):
        yield "validation", text

  def vocabulary(self, tokenizer, workdir, seed, found, report) -> Tokenizer:
    """The vocabulary of the workdir, made where it is missing.

    Args:
      tokenizer, workdir, seed, report: as of `prepare`.
      found: `fingerprints`, which read all files.
    """

    def training_texts():
      return (text for split, text in self.texts() if split == "train")

    reading = {"sha256": io.digest(self.reading())}
    return _vocabulary.obtain(
      tokenizer,
      pathlib.Path(workdir) / "tokenizer",
      documents=training_texts,
      sources=[*found["files"], reading],
      seed=seed,
      report=report,
    )

  def _cache(self, tokenizer, workdir, found, report, progress):
    folder = workdir / "cache"
    training, _ = self.corruptions()
    key = caches.key(
      found,
      tokenizer.sha256,
      self.arrangement,
      training.text_length(self.length),
      self.rows_per_shard,
      **self.reading(),
    )
    if folder.exists():
      cache = caches.open_cache(folder, key)
      report(f"Cache: unchanged, {_counts(cache)} in {folder}.")
      return cache
    cache = caches.build(
      folder,
      key,
      self.texts(),
      tokenizer,
      sources.sentences,
      progress=progress,
      report=report,
    )
    report(f"Cache: packed {_counts(cache)}, in {folder}.")
    if not cache.rows("validation"):
      report(
        "Cache: no document is held out; there is no validation. Set "
        "data.validation_files, raise data.validation_share, or cut files "
        "into smaller documents by data.documents='line'."
      )
    return cache

  def facts(self, tokenizer, cache) -> dict[str, Any]:
    """What a run card says of vocabulary and cache."""
    splits = {
      split: {k: v for k, v in entry.items() if k != "shards"}
      for split, entry in cache.manifest["splits"].items()
    }
    return {
      "vocab_size": tokenizer.vocab_size,
      "tokenizer_sha256": tokenizer.sha256,
      "cache_sha256": cache.sha256,
      "sources": cache.manifest["key"]["sources"],
      "length": self.length,
      **splits,
    }


def held_out(text: str, share: float) -> bool:
  """Whether a document is held out: by the hash of its text."""
  if not share:
    return False
  digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
  return int.from_bytes(digest) < share * 2**64


def _counts(cache) -> str:
  parts = []
  for split, entry in cache.manifest["splits"].items():
    parts.append(
      f"{split} {entry['documents']:,} documents, {entry['tokens']:,} tokens, "
      f"{entry['rows']:,} rows {entry['packing']['efficiency']:.2%} full"
    )
  return "; ".join(parts)
