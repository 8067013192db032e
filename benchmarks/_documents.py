"""Real ragged documents for the benchmarks, as plain arrays.

The texts are those of the demo: the documentation that every Python carries.
One vocabulary is trained on them; every contender gets the same documents in
the same updates.
"""

import dataclasses
import pathlib

import numpy as np

from jaxlm.data import packing, tokenizers
from jaxlm.demo import corpus

RATE = 0.15  # masked tokens, of those that are not special


@dataclasses.dataclass(frozen=True)
class Pool:
  """The documents of a few updates, tokenized and bracketed.

  Attributes:
    documents: int32 arrays, `[CLS] text [SEP]`, cut at `length` tokens as
      `run_mlm.py --line_by_line` cuts them.
    rows: for each update, for each packed row, indices of its documents.
    length: tokens of a packed row.
    specials: role -> id (pad, cls, sep, mask, unk).
    vocab_size: ids are below it.
    tokenizer: folder that `transformers` loads the vocabulary from.
  """

  documents: list[np.ndarray]
  rows: list[list[np.ndarray]]
  length: int
  specials: dict[str, int]
  vocab_size: int
  tokenizer: str

  def of_update(self, update: int) -> list[np.ndarray]:
    """The documents of an update, in the order of its rows."""
    return [self.documents[i] for row in self.rows[update] for i in row]

  @property
  def tokens(self) -> int:
    """Real tokens of all updates."""
    return sum(len(d) for u in range(len(self.rows)) for d in self.of_update(u))


def pool(
  *, updates: int, rows: int, length: int, vocab_size: int, folder: str
) -> Pool:
  """Draws documents that fill `updates` times `rows` packed rows.

  Args:
    updates: training steps.
    rows: packed rows of a step.
    length: tokens of a row.
    vocab_size: of the WordPiece vocabulary that is trained.
    folder: where the vocabulary is written.

  Raises:
    UserError: a Python without its sources.
    ValueError: the corpus is too small for so many rows.
  """
  texts = [record["text"] for record in corpus.collect()]
  spec = {"kind": "wordpiece", "vocab_size": vocab_size, "lowercase": True}
  tokenizer = tokenizers.train(spec, texts)
  tokenizer.save_hf(pathlib.Path(folder), model_max_length=length)
  order = np.random.default_rng(0).permutation(len(texts))
  found = [
    np.asarray(tokenizer.bracket(ids[: length - 2])[0], np.int32)
    for ids in tokenizer.encode_batch([texts[i] for i in order])
  ]
  documents, packed = _filling(found, updates * rows, length)
  # Packed rows come out sorted by length; updates should be alike.
  places = np.random.default_rng(1).permutation(updates * rows)
  whole = [packed.items[a:b] for a, b in _bounds(packed)]
  return Pool(
    documents=documents,
    rows=[[whole[i] for i in part] for part in places.reshape(updates, rows)],
    length=length,
    specials={r: i for r, i in tokenizer.special_ids.items()},
    vocab_size=tokenizer.vocab_size,
    tokenizer=str(folder),
  )


def _filling(documents, rows, length):
  """The longest prefix of the documents that packs into exactly `rows`."""
  lengths = np.array([len(d) for d in documents])
  count = int(np.searchsorted(np.cumsum(lengths), rows * length, "right"))
  if count == len(documents):
    raise ValueError(
      f"{rows} rows of {length} hold {rows * length} tokens, the corpus has "
      f"only {lengths.sum()}: ask for fewer updates or rows"
    )
  while True:
    packed = packing.pack(lengths[:count], length)
    if len(packed.bounds) - 1 <= rows:
      return documents[:count], packed
    count -= 1


def _bounds(packed):
  return zip(packed.bounds[:-1], packed.bounds[1:], strict=True)


def packed_batch(pool: Pool, update: int, seed: int) -> dict[str, np.ndarray]:
  """The batch of an update as jaxlm feeds it; see docs/design.md.

  Masks as `jaxlm.data.corruption.masking` draws them: a share of the tokens of
  a row, 8 of 10 masked, 1 replaced, 1 kept; the predicted places are listed.
  """
  rng = np.random.default_rng((seed, update))
  rows, length = pool.rows[update], pool.length
  most = int(np.ceil(RATE * length))
  batch = {
    key: np.zeros((len(rows), length), np.int32)
    for key in ("inputs", "segments", "positions")
  }
  batch["inputs"] += pool.specials["pad"]
  for key in ("predict_positions", "predict_ids"):
    batch[key] = np.zeros((len(rows), most), np.int32)
  batch["predict_weights"] = np.zeros((len(rows), most), np.float32)
  for r, row in enumerate(rows):
    at = 0
    for segment, index in enumerate(row, start=1):
      document = pool.documents[index]
      span = slice(at, at + len(document))
      batch["inputs"][r, span] = document
      batch["segments"][r, span] = segment
      batch["positions"][r, span] = np.arange(len(document))
      at += len(document)
    _mask_row({k: v[r] for k, v in batch.items()}, pool, rng)
  return batch


def _mask_row(row, pool, rng):
  special = np.isin(row["inputs"], [*pool.specials.values()])
  places = np.flatnonzero(~special & (row["segments"] > 0))
  count = max(1, round(RATE * len(places)))
  chosen = np.sort(rng.choice(places, count, replace=False))
  row["predict_positions"][:count] = chosen
  row["predict_ids"][:count] = row["inputs"][chosen]
  row["predict_weights"][:count] = 1
  draw = rng.random(count)
  first = max(pool.specials.values()) + 1
  random = rng.integers(first, pool.vocab_size, count)
  new = np.where(draw < 0.9, random, row["inputs"][chosen])
  row["inputs"][chosen] = np.where(draw < 0.8, pool.specials["mask"], new)
