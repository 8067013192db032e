"""Packed words with their vectors: what continuous outputs learn to hit.

The table of vectors stays on the host, and a batch brings those of its own
words: 800,000 words of 300 numbers are 0.96 GB, which each device would hold
and each checkpoint repeat if they were part of the state, while a batch of
128 x 128 words is 20 MB. A vector is a function of a word's id, so batches are
still functions of (seed, step).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from jaxlm import errors
from jaxlm.data import _kept, datasets
from jaxlm.data.packed import Packed
from jaxlm.data.prepared import Prepared
from jaxlm.data.vectors import vectors as vector_parts
from jaxlm.types import Task

FOLDER, TABLE, MANIFEST = "vectors", "table.npy", "table.json"
KEY = "word_vectors"


@datasets.register(
  KEY, paper="Li et al., TACL 2019, ELMo-C", example={"files": "corpus/*.txt"}
)
@dataclasses.dataclass(frozen=True)
class WordVectors(Packed):
  """Packed rows, and the unit vector of every word of them.

  Batches also hold `word_vectors`, float32 [batch, length + 1, width]: those
  of `inputs`, and of the last target. The tokenizer must be one of words, and
  the corruption `causal`.

  Attributes:
    vectors: where the vectors come from (`jaxlm.data.vectors`).
  """

  corruption: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"kind": "causal"}
  )
  vectors: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"kind": "fasttext"}
  )
  mixes: ClassVar[bool] = False  # vectors are added to whole batches

  def __post_init__(self):
    super().__post_init__()
    vector_parts.build(self.vectors)

  def prepare(self, *, workdir, seed: int, report=print, **given) -> Prepared:
    """As of `Packed`; also makes the table of vectors, in workdir/vectors.

    Raises:
      UserError: as of `Packed`, a tokenizer of pieces, rows without targets,
        or vectors that cannot be read or trained.
    """
    made = super().prepare(workdir=workdir, seed=seed, report=report, **given)
    self._check(made)
    held, facts = self._table(pathlib.Path(workdir) / FOLDER, made, seed)
    report(
      f"Vectors: {len(held):,} of {held.shape[1]} numbers, "
      f"{facts['unknown']:,} of them the unknown word's, in "
      f"{pathlib.Path(workdir) / FOLDER / TABLE}."
    )
    add = functools.partial(with_vectors, table=held)
    return made.changed(add, vectors=facts)

  def _check(self, made: Prepared) -> None:
    if made.tokenizer.kind != "wordlevel":
      raise errors.UserError(
        f"config.tokenizer is of kind '{made.tokenizer.kind}', whose tokens "
        "are pieces of words, and vectors are those of words: take "
        "config.tokenizer=dict(kind='word', vocab_size=100_000)."
      )
    if "decoder_inputs" in made.train.batch_spec or (
      "targets" not in made.train.batch_spec
    ):
      raise errors.UserError(
        f"data.corruption is '{self.corruption['kind']}', but data of kind "
        "'word_vectors' give the vectors of next words: take kind='causal'."
      )

  def _table(self, folder, made, seed) -> tuple[np.ndarray, dict[str, Any]]:
    """The table, made where an earlier session has not, and its facts."""
    part = vector_parts.build(self.vectors)
    names = ("tokenizer_sha256", "cache_sha256")
    key = part.key() | {name: made.facts[name] for name in names}
    key["seed"] = seed
    kept = _kept.Kept(folder / TABLE, folder / MANIFEST)
    facts = kept.facts(key)
    if facts is None:
      texts = lambda: (text for split, text in self.texts() if split == "train")
      found = part.make(texts, made.tokenizer, seed)
      rows, unknown = unit_rows(found, made.tokenizer)
      facts = dict(width=rows.shape[1], unknown=unknown)
      facts = kept.write(key, facts, lambda file: np.save(file, rows))
    return table(folder.parent), facts


def table(workdir) -> np.ndarray:
  """The table of vectors of a workdir, float32 [vocab, width], from disk."""
  return np.load(pathlib.Path(workdir) / FOLDER / TABLE, mmap_mode="r")


def unit_rows(made, tokenizer) -> tuple[np.ndarray, int]:
  """The unit vector of each id, and how many are the unknown word's.

  A word of which nothing is known has the vector of the unknown word; so has
  the unknown word itself the mean of all where its literal is unknown.
  Padding has zeros.

  Args:
    made: has `of(words)`.
    tokenizer: of words.

  Raises:
    UserError: nothing is known of any word.
  """
  rows = made.of(tokenizer.pieces)
  rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
  known = np.any(rows != 0, axis=1)
  if not known.any():
    raise errors.UserError(
      "data.vectors know no word of the vocabulary: are they of this language?"
    )
  if not known[tokenizer.unk_id]:
    mean = rows[known].mean(axis=0)
    rows[tokenizer.unk_id] = mean / max(np.linalg.norm(mean), 1e-12)
  rows[~known] = rows[tokenizer.unk_id]
  rows[tokenizer.pad_id] = 0.0
  return np.asarray(rows, np.float32), int(np.sum(~known))


def with_vectors(task: Task, table: np.ndarray) -> Task:
  """The Task with `word_vectors` in its batches.

  Args:
    task: rows with `inputs` and `targets`.
    table: float32 [vocab, width].
  """
  rows, length = task.batch_spec["inputs"].shape

  def batch_at(seed, step, shard=(0, 1)):
    batch = task.batch_at(seed, step, shard=shard)
    ids = np.concatenate([batch["inputs"], batch["targets"][:, -1:]], axis=1)
    return {**batch, KEY: np.asarray(table[ids])}

  shape = (rows, length + 1, table.shape[1])
  spec = {**task.batch_spec, KEY: jax.ShapeDtypeStruct(shape, np.float32)}
  return task._replace(batch_spec=spec, batch_at=batch_at)
