"""Rows of an anchor and its positives, drawn from documents."""

import pathlib
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxlm.data import _span_draws, _stream
from jaxlm.data._sentence_arrays import Texts, collate
from jaxlm.data._sentence_tasks import Masked, as_text
from jaxlm.types import Batch


class Documents(NamedTuple):
  """Long documents as tokens, without brackets.

  Attributes:
    ids: unsigned [tokens], on disk, one document behind the other.
    starts, lengths: int64 [documents], of those that are long enough.
    anchors: anchors of each document, a row for each.
    short: documents left out.
  """

  ids: np.ndarray
  starts: np.ndarray
  lengths: np.ndarray
  anchors: int
  short: int

  @property
  def rows(self) -> int:
    """Rows of one epoch; those of a document follow each other."""
    return self.anchors * len(self.starts)


def tokenized(
  texts: Iterable[tuple[str, str]], tokenizer, anchors: int, least: int, workdir
) -> dict[str, Documents]:
  """Documents of at least `least` tokens of each split.

  Args:
    texts: (split, text) pairs, streamed.
    tokenizer: of the texts.
    anchors: of each document.
    least: tokens below which a document is left out.
    workdir: whose disk holds the ids, in a file without a name.
  """
  pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
  # Files that are mapped outlive their names.
  with tempfile.TemporaryDirectory(
    dir=workdir, prefix=".spans-", ignore_cleanup_errors=True
  ) as folder:
    streams = _stream.tokenize(
      texts, tokenizer, None, pathlib.Path(folder), lambda what, done: None
    )
  found = {}
  for split, stream in streams.items():
    lengths = stream.pieces.lengths.astype(np.int64)
    enough = lengths >= least
    found[split] = Documents(
      stream.ids,
      stream.pieces.starts[:-1][enough],
      lengths[enough],
      anchors,
      int((~enough).sum()) + stream.empty,
    )
  return found


class Making(NamedTuple):
  """How rows become batches; called as that of `_sentence_tasks`.

  Attributes:
    positives: of each anchor.
    shortest, longest: tokens of a span.
    draw: a way of `_span_draws.POSITIVES`.
    tokenizer: of the documents.
    masked: hides tokens of the anchors, or None.
  """

  positives: int
  shortest: int
  longest: int
  draw: Callable[..., Any]
  tokenizer: Any
  masked: Masked | None = None

  @property
  def width(self) -> int:
    """Tokens of the longest span between its brackets."""
    return self.longest + self.tokenizer.overhead()

  def text(self, *drawn) -> Batch:
    """What `batch` is made of, see `Task.text_at`."""
    return as_text(self._replace(masked=None).batch(*drawn))

  def batch(self, data: Documents, rows, seed, numbers, epochs) -> Batch:
    """The batch of some rows: each an anchor, then its positives.

    Args:
      data: the documents.
      rows: int64 [B], which.
      seed: of what is drawn.
      numbers: int64 [B], which masks are drawn by.
      epochs: int64 [B], what spans and masks are drawn by.
    """
    spans = [
      part
      for row, epoch in zip(rows.tolist(), epochs.tolist())
      for part in self._row(data, row, (seed % 2**63, epoch))
    ]
    texts = _bracketed(spans, self.tokenizer, 1 + self.positives)
    length = self.width * (1 + self.positives)
    pad = self.tokenizer.pad_id
    batch = collate(texts, np.arange(len(rows))[:, None], 1, length, pad)
    if self.masked is None:
      return batch
    return batch | self._hidden(batch, seed, numbers, epochs)

  def _row(self, data, row, key) -> list[np.ndarray]:
    """The tokens of a row's spans, those of all anchors drawn alike."""
    number, anchor = divmod(row, data.anchors)
    random = np.random.default_rng((*key, number))
    tokens = int(data.lengths[number])
    document = _span_draws.Document(tokens, self.shortest, self.longest)
    chosen = _span_draws.anchors(document, data.anchors, random)[anchor]
    random = np.random.default_rng((*key, number, 1 + anchor))
    spans = [chosen] + [
      self.draw(document, chosen, random) for _ in range(self.positives)
    ]
    first = data.starts[number]
    return [data.ids[first + start : first + end] for start, end in spans]

  def _hidden(self, batch, seed, numbers, epochs) -> Batch:
    """Anchors masked, and what is to be predicted of them."""
    front = {k: batch[k][:, : self.width] for k in ("inputs", "segments")}
    own = (front["segments"] == 1).astype(np.int32)
    alone = np.where(own, front["inputs"], self.tokenizer.pad_id)
    alone = {"inputs": alone.astype(np.int32), "segments": own}
    made = self.masked(alone, seed, numbers, epochs)
    shown = batch["inputs"].copy()
    hidden = made.pop("corrupted_inputs")
    shown[:, : self.width] = np.where(own, hidden, front["inputs"])
    return {"inputs": shown, **made}


def _bracketed(spans, tokenizer, columns: int) -> Texts:
  """Rows of `columns` spans each."""
  made = [tokenizer.bracket(span.tolist())[0] for span in spans]
  sizes = [len(ids) for ids in made]
  return Texts(
    np.concatenate(made).astype(np.int32),
    np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    np.array([tokenizer.summary_position(ids) for ids in made], np.int32),
    np.ones((len(made) // columns, columns), bool),
    0,
    0,
  )
