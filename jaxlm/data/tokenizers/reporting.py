"""How well a vocabulary fits a text."""

import itertools
import unicodedata
from collections.abc import Iterable
from typing import Any

from jaxlm import errors
from jaxlm.data.tokenizer import Tokenizer

# Of a report, what compares vocabularies.
FIT = ("tokens_per_word", "bytes_per_token", "unknown_rate", "marks_kept")
_BATCH = 256


def report(tokenizer: Tokenizer, documents: Iterable[str]) -> dict[str, Any]:
  """Measures a vocabulary on documents, streamed.

  Returns:
    Counts (`documents`, `words`: split at white space, `tokens`,
    `characters`, `bytes`), and `tokens_per_word` (fertility),
    `bytes_per_token`, `unknown_rate` (share of tokens), `round_trips` (share
    of documents that come back from their ids as normalised), `marks_kept`
    (share of combining marks, such as Indic vowel signs, that normalisation
    leaves) and `vocab_used` (share of the vocabulary that occurs).

  Raises:
    UserError: there are no documents.
  """
  unknown_id = tokenizer.special_ids.get("unk")
  sums = dict.fromkeys(
    ("documents", "words", "tokens", "characters", "bytes"), 0
  )
  unknown = same = marks = marks_kept = 0
  used: set[int] = set()
  stream = iter(documents)
  while batch := list(itertools.islice(stream, _BATCH)):
    rows = tokenizer.encode_batch(batch)
    sums["documents"] += len(batch)
    for text, ids in zip(batch, rows):
      sums["words"] += len(text.split())
      sums["tokens"] += len(ids)
      sums["characters"] += len(text)
      sums["bytes"] += len(text.encode())
      unknown += ids.count(unknown_id)
      used.update(ids)
      same += round_trips(tokenizer, text, ids)
      written = _marks(unicodedata.normalize("NFC", text))
      marks += written
      marks_kept += min(written, written and _marks(tokenizer.normalize(text)))
  if not sums["documents"]:
    raise errors.UserError("There are no documents to measure a vocabulary on.")
  tokens = max(sums["tokens"], 1)
  return {
    "kind": tokenizer.kind,
    "vocab_size": tokenizer.vocab_size,
    **sums,
    "tokens_per_word": sums["tokens"] / max(sums["words"], 1),
    "bytes_per_token": sums["bytes"] / tokens,
    "unknown_rate": unknown / tokens,
    "round_trips": same / sums["documents"],
    "marks_kept": marks_kept / marks if marks else 1.0,
    "vocab_used": len(used) / tokenizer.vocab_size,
  }


def round_trips(tokenizer: Tokenizer, text: str, ids) -> bool:
  """Whether the ids decode to the normalised text.

  Byte-level vocabularies must keep every character. The others do not write
  white space down (WordPiece) or mark it with "▁", and are compared without.
  """
  before, after = tokenizer.normalize(text), tokenizer.decode(ids)
  if tokenizer.kind == "byte_bpe":
    return before == after
  return _solid(before) == _solid(after)


def _marks(text: str) -> int:
  """How many combining marks a text has."""
  if text.isascii():
    return 0
  return sum(unicodedata.category(c)[0] == "M" for c in text)


def _solid(text: str) -> str:
  return "".join(text.replace("▁", " ").split())
