"""Packed text whose rare words are pointed out (TNF, arXiv:2008.01466)."""

import dataclasses
import functools
import pathlib
from typing import ClassVar

import jax
import numpy as np

from jaxlm import errors
from jaxlm.data import _fields, _kept, datasets, order, rare_words
from jaxlm.data import cache as caches
from jaxlm.data.packed import Packed
from jaxlm.data.prepared import Prepared
from jaxlm.types import Task

FOLDER, TABLE, MANIFEST = "notes", "rare.tsv", "rare.json"


@datasets.register(
  "noted", paper="arXiv:2008.01466", example={"files": "corpus/*.txt"}
)
@dataclasses.dataclass(frozen=True)
class Noted(Packed):
  """Packed text, and for each batch where its rare words stand.

  Batches also hold `note_ids` and `note_spans` (`rare_words.annotate`). The
  published band, 100 to 500 occurrences, is of a corpus of 16 GB; take one of
  which 10 to 25% of rows have a word, a share that `prepare` reports.

  Attributes:
    min_count, max_count: how often a rare word occurs in the training rows.
    words: most entries of the dictionary, `model.notes.words`.
    spans: occurrences of a row to take notes from.
  """

  min_count: int = 100
  max_count: int = 500
  words: int = 200_000
  spans: int = 16
  mixes: ClassVar[bool] = False  # notes are added to whole batches

  def __post_init__(self):
    super().__post_init__()
    _fields.check_whole(self, ("min_count", "max_count", "words", "spans"))
    if self.min_count > self.max_count:
      raise errors.UserError(
        f"data.min_count is {self.min_count}, above data.max_count, "
        f"{self.max_count}: no word is as rare."
      )

  def prepare(self, *, workdir, report=print, **given) -> Prepared:
    """As of `Packed`; also finds the rare words, in workdir/notes.

    Raises:
      UserError: as of `Packed`, a corruption that predicts no tokens, or no
        rare word at all.
    """
    made = super().prepare(workdir=workdir, report=report, **given)
    if "predict_positions" not in made.train.batch_spec:
      raise errors.UserError(
        f"data.corruption is '{self.corruption['kind']}', but notes are taken "
        "beside masked tokens alone: take kind='masking'."
      )
    index = self._index(pathlib.Path(workdir), made, report)
    add = functools.partial(
      noted, index=index, tokenizer=made.tokenizer, spans=self.spans
    )
    facts = {"notes": len(index.words), "rows_with_notes": index.share}
    return made.changed(add, **facts)

  def _index(self, workdir, made, report) -> rare_words.Index:
    """The rare words, counted where that was not done before."""
    folder = workdir / FOLDER
    key = dict(cache_sha256=made.facts["cache_sha256"])
    key |= {k: getattr(self, k) for k in ("min_count", "max_count", "words")}
    kept = _kept.Kept(folder / TABLE, folder / MANIFEST)
    if facts := kept.facts(key):
      table = kept.table.read_text(encoding="utf-8")
      index = rare_words.Index.read(table, facts["rows_with_notes"])
    else:
      index = rare_words.build(
        caches.open_cache(workdir / "cache"),
        made.tokenizer,
        min_count=self.min_count,
        max_count=self.max_count,
        most=self.words,
      )
      table = index.table().encode()
      told = dict(rows_with_notes=index.share)
      kept.write(key, told, lambda file: file.write(table))
    if not index.words:
      raise errors.UserError(
        f"No word occurs {self.min_count} to {self.max_count} times in the "
        "training rows: set data.min_count and data.max_count for a corpus of "
        "this size."
      )
    report(
      f"Notes: {len(index.words):,} words that occur {self.min_count} to "
      f"{self.max_count} times, in {index.share:.1%} of rows; listed in "
      f"{folder / TABLE}."
    )
    return index


def noted(task: Task, index, tokenizer, spans: int) -> Task:
  """The Task with `note_ids` and `note_spans` in its batches.

  Args:
    task: masked rows.
    index: a `rare_words.Index`.
    tokenizer: of its tokens.
    spans: occurrences of a row to take notes from.
  """
  rows, length = task.batch_spec["inputs"].shape

  def batch_at(seed, step, shard=(0, 1)):
    batch = task.batch_at(seed, step, shard=shard)
    first = order.shard_slice(rows, shard).start

    def draw(row):  # the same however the batch is split
      return np.random.default_rng([seed % 2**64, step, first + row])

    more = rare_words.annotate(batch, index, tokenizer, spans, draw)
    return {**batch, **more}

  spec = {
    **task.batch_spec,
    "note_ids": jax.ShapeDtypeStruct((rows, length), np.int32),
    "note_spans": jax.ShapeDtypeStruct((rows, spans, 3), np.int32),
  }
  return task._replace(batch_spec=spec, batch_at=batch_at)
