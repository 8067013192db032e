"""Rare words of a corpus, and where a batch has them (TNF's side of data).

A word is a run of pieces from a word start to the next, inside one document.
Words are counted in the rows that training reads and known by a 64-bit hash of
their pieces: random for each piece, a polynomial in the place. Two of a
million words share one with a chance of 3e-8.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

_PRIME = np.uint64(0x9E3779B97F4A7C15)  # odd, so its powers never vanish
_SEED = 20_080_1466  # of the pieces' random numbers
_ROWS = 8192  # of a cache, at once
_ADDRESS = ("/", "@", "www")


class Words(NamedTuple):
  """All whole words of some rows, in reading order.

  Attributes:
    row: int64 [words].
    start: int64 [words], the first token's place in the row.
    size: int64 [words], tokens.
    hash: uint64 [words].
  """

  row: np.ndarray
  start: np.ndarray
  size: np.ndarray
  hash: np.ndarray


class Index(NamedTuple):
  """The words of which notes are taken; note i is entry i - 1.

  Attributes:
    words: their text.
    counts: int64, how often the training rows have them.
    hashes: uint64.
    share: of training rows that have at least one.
  """

  words: Sequence[str]
  counts: np.ndarray
  hashes: np.ndarray
  share: float

  def notes(self, words: Words) -> np.ndarray:
    """int32 [words]: the note of each word, 0 for none."""
    if not len(self.hashes):
      return np.zeros(len(words.hash), np.int32)
    order = np.argsort(self.hashes)
    place = np.searchsorted(self.hashes, words.hash, sorter=order)
    found = order[np.minimum(place, len(order) - 1)]
    known = self.hashes[found] == words.hash
    return np.where(known, found + 1, 0).astype(np.int32)

  def table(self) -> str:
    """Lines of word, count, note and hash, with tabs between."""
    lines = ["word\tcount\tnote\thash"]
    entries = zip(self.words, self.counts, self.hashes)
    for note, (word, count, key) in enumerate(entries, 1):
      lines.append(f"{word}\t{count}\t{note}\t{key:016x}")
    return "\n".join(lines) + "\n"

  @classmethod
  def read(cls, table: str, share: float) -> "Index":
    """The inverse of `table`."""
    lines = [line.split("\t") for line in table.splitlines()[1:]]
    return cls(
      words=tuple(line[0] for line in lines),
      counts=np.array([int(line[1]) for line in lines], np.int64),
      hashes=np.array([int(line[3], 16) for line in lines], np.uint64),
      share=share,
    )


def find(tokens, segments, tokenizer) -> Words:
  """The whole words of rows.

  Args:
    tokens: int [rows, length].
    segments: int [rows, length], 0 at padding.
    tokenizer: has `word_starts` and `is_special`, bool [vocab].

  Returns:
    Words whose first piece begins one and that another token of the text
    follows: what a row cuts at its ends is none, and there is no telling of
    the last word of a row whether it is cut.
  """
  plain = (segments > 0) & ~tokenizer.is_special[tokens]
  begins = tokenizer.word_starts[tokens]
  before = np.zeros_like(plain)
  before[:, 1:] = plain[:, :-1] & (segments[:, 1:] == segments[:, :-1])
  # Also where a piece goes on with a word that is not there.
  first = plain & (begins | ~before)
  places = np.flatnonzero(plain)
  heads = np.flatnonzero(first.ravel()[places])
  sizes = np.diff(np.append(heads, len(places)))
  if not len(heads):
    none = np.zeros(0, np.int64)
    return Words(none, none, none, np.zeros(0, np.uint64))
  offset = np.arange(len(places)) - np.repeat(heads, sizes)
  numbers = _numbers(len(tokenizer.is_special))[tokens.ravel()[places]]
  hashes = np.add.reduceat(numbers * _powers(sizes.max())[offset], heads)
  row, start = np.divmod(places[heads], tokens.shape[1])
  # Behind a row's last token stands none.
  goes_on = np.pad(before & plain, ((0, 0), (0, 1)))
  followed = goes_on[row, start + sizes]
  whole = begins[row, start] & followed
  return Words(row[whole], start[whole], sizes[whole], hashes[whole])


def _numbers(vocab: int) -> np.ndarray:
  source = np.random.Generator(np.random.Philox(_SEED))
  return source.integers(1, 2**64, vocab, np.uint64, endpoint=False)


def _powers(count: int) -> np.ndarray:
  return np.cumprod(np.full(count, _PRIME, np.uint64))


def build(
  cache,
  tokenizer,
  *,
  min_count: int,
  max_count: int,
  most: int,
) -> Index:
  """Counts the words of the training rows and takes the rare ones.

  Args:
    cache: a `jaxlm.data.cache.Cache`.
    tokenizer: of its rows.
    min_count, max_count: how often a rare word occurs.
    most: entries; of more words the most frequent are taken.

  Returns:
    Words without digits, unknown pieces and addresses, by count, the most
    frequent first, then by text.
  """
  hashes, counts, where = _count(cache, tokenizer)
  band = np.flatnonzero((counts >= min_count) & (counts <= max_count))
  found = []
  for number in band:
    word = _text(cache, tokenizer, where[number])
    if word:
      found.append((-int(counts[number]), word, int(hashes[number])))
  found = sorted(found)[:most]
  index = Index(
    words=tuple(word for _, word, _ in found),
    counts=np.array([-count for count, _, _ in found], np.int64),
    hashes=np.array([key for _, _, key in found], np.uint64),
    share=0.0,
  )
  return index._replace(share=_share(cache, tokenizer, index))


def _count(cache, tokenizer):
  """(hash, count, (row, start, size) of one occurrence) of every word."""
  hashes = np.zeros(0, np.uint64)
  counts = np.zeros(0, np.int64)
  where = np.zeros((0, 3), np.int64)
  for rows, words in _scan(cache, tokenizer):
    places = np.stack([rows[words.row], words.start, words.size], 1)
    hashes = np.concatenate([hashes, words.hash])
    counts = np.concatenate([counts, np.ones(len(words.hash), np.int64)])
    where = np.concatenate([where, places])
    hashes, first, back = np.unique(
      hashes, return_index=True, return_inverse=True
    )
    total = np.zeros(len(hashes), np.int64)
    np.add.at(total, back.ravel(), counts)
    counts, where = total, where[first]
  return hashes, counts, where


def _scan(cache, tokenizer):
  """(numbers of rows, their words), some rows at a time."""
  count = cache.rows("train")
  for start in range(0, count, _ROWS):
    rows = np.arange(start, min(start + _ROWS, count))
    held = cache.gather("train", rows)
    yield rows, find(held["tokens"], held["segments"], tokenizer)


def _share(cache, tokenizer, index) -> float:
  held = 0
  for _, words in _scan(cache, tokenizer):
    held += len(np.unique(words.row[index.notes(words) > 0]))
  return held / max(cache.rows("train"), 1)


def _text(cache, tokenizer, where) -> str:
  """The word of an occurrence, '' for one that is left out."""
  row, start, size = where
  ids = cache.gather("train", np.array([row]))["tokens"][0][
    start : start + size
  ]
  if tokenizer.special_ids.get("unk", -1) in ids:
    return ""
  word = tokenizer.decode([int(i) for i in ids]).strip()
  if any(c.isdigit() or c.isspace() for c in word):
    return ""
  if not any(c.isalpha() for c in word) or any(a in word for a in _ADDRESS):
    return ""
  return word


def annotate(
  batch: Mapping[str, np.ndarray],
  index: Index,
  tokenizer,
  spans: int,
  draw: Callable[[int], np.random.Generator],
) -> dict[str, np.ndarray]:
  """`note_ids` and `note_spans` of a masked batch.

  An occurrence of which a piece is to be predicted has neither: its note
  would tell what is hidden.

  Args:
    batch: `inputs`, `segments`, `predict_*`; see docs/design.md.
    index: the words.
    tokenizer: of the tokens.
    spans: occurrences of a row to learn from; of more a random part.
    draw: row -> the numbers for that.

  Returns:
    int32 [batch, length], and int32 [batch, spans, 3]: note, start, end.
  """
  hidden = np.zeros(batch["inputs"].shape, bool)
  rows, which = np.nonzero(batch["predict_weights"])
  places = batch["predict_positions"][rows, which]
  text = batch["inputs"].copy()
  text[rows, places] = batch["predict_ids"][rows, which]
  hidden[rows, places] = True
  words = find(text, batch["segments"], tokenizer)
  notes = index.notes(words)
  until = np.pad(np.cumsum(hidden, axis=1), ((0, 0), (1, 0)))
  end = words.start + words.size
  seen = until[words.row, end] == until[words.row, words.start]
  kept = np.flatnonzero((notes > 0) & seen)
  ids = np.zeros(text.shape, np.int32)
  out = np.zeros((len(text), spans, 3), np.int32)
  for row in np.unique(words.row[kept]):
    mine = kept[words.row[kept] == row]
    for k in mine:
      ids[row, words.start[k] : end[k]] = notes[k]
    if len(mine) > spans:
      mine = np.sort(draw(row).permutation(mine)[:spans])
    found = np.stack([notes[mine], words.start[mine], end[mine]], 1)
    out[row, : len(mine)] = found
  return {"note_ids": ids, "note_spans": out}
