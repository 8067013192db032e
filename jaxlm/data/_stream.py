"""First pass: documents to token ids on disk and lengths in memory."""

import array
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxlm.data.arrangements import Pieces

_CHARACTERS = 1 << 20  # tokenized at once


class Stream(NamedTuple):
  """A tokenized split.

  Attributes:
    ids: uint16 or uint32 [tokens], on disk.
    pieces: lengths of its documents or sentences.
    empty: documents that held no token, which are left out.
  """

  ids: np.ndarray
  pieces: Pieces
  empty: int

  @property
  def documents(self) -> int:
    """Documents that hold tokens."""
    return len(self.pieces.documents) - 1


def id_dtype(vocab_size: int) -> np.dtype:
  """The smallest unsigned type that holds every id."""
  return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


class Writer:
  """Appends the documents of one split to a file of ids."""

  def __init__(self, path, dtype: np.dtype):
    self._path, self._dtype = path, dtype
    self._file = open(path, "wb")  # noqa: SIM115, closed by finish
    self._lengths = array.array("i")
    self._documents = array.array("q", [0])
    self._empty = 0

  def add(self, document: Iterable[list[int]]) -> None:
    """Appends a document given as the ids of its pieces."""
    pieces = [ids for ids in document if ids]
    if not pieces:
      self._empty += 1
      return
    for ids in pieces:
      self._file.write(np.asarray(ids, self._dtype).tobytes())
      self._lengths.append(len(ids))
    self._documents.append(len(self._lengths))

  def finish(self) -> Stream:
    """Closes the file and maps it."""
    self._file.close()
    pieces = Pieces(
      np.asarray(self._lengths, np.int32),
      np.asarray(self._documents, np.int64),
    )
    if not len(pieces.lengths):
      return Stream(np.zeros(0, self._dtype), pieces, self._empty)
    ids = np.memmap(self._path, self._dtype, mode="r")
    return Stream(np.asarray(ids), pieces, self._empty)


def tokenize(
  documents: Iterable[tuple[str, str]],
  tokenizer,
  split_sentences: Callable[[str], list[str]] | None,
  folder,
  progress: Callable[[str, int], None],
) -> dict[str, Stream]:
  """Tokenizes (split, text) pairs into one stream a split.

  Args:
    documents: the texts, streamed.
    tokenizer: has `encode_batch` and `vocab_size`.
    split_sentences: cuts a document where an arrangement needs sentences.
    folder: where the ids are written.
    progress: called with ("tokens", number so far).
  """
  dtype = id_dtype(tokenizer.vocab_size)
  writers: dict[str, Writer] = {}
  tokens = 0
  for batch in _batches(documents):
    texts = [
      split_sentences(text) if split_sentences else [text] for _, text in batch
    ]
    encoded = iter(tokenizer.encode_batch([t for ts in texts for t in ts]))
    for (split, _), pieces in zip(batch, texts):
      if split not in writers:
        writers[split] = Writer(folder / f"{split}.ids", dtype)
      ids = [next(encoded) for _ in pieces]
      tokens += sum(map(len, ids))
      writers[split].add(ids)
    progress("tokens", tokens)
  return {split: writer.finish() for split, writer in writers.items()}


def _batches(documents) -> Iterator[list[tuple[str, str]]]:
  batch, size = [], 0
  for split, text in documents:
    batch.append((split, text))
    size += len(text)
    if size > _CHARACTERS:
      yield batch
      batch, size = [], 0
  if batch:
    yield batch
