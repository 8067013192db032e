"""How one vocabulary spells the pieces of another."""

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from jaxlm.data.tokenizer import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_ANCHORS = 8  # letters tried in front of what goes on a word


class Spelling(NamedTuple):
  """What a new piece is in the old vocabulary.

  Attributes:
    ids: old ids; one for a piece that both have, none where the old
      vocabulary cannot spell it.
    shared: whether both have the piece.
  """

  ids: tuple[int, ...]
  shared: bool


def spell(new: Tokenizer, old: Tokenizer) -> list[Spelling]:
  """For each id of `new`: special tokens by their role, else by the piece.

  A piece is its bytes, with a space in front where it begins a word, so that
  pieces of unlike vocabularies can be the same.
  """
  special = _specials(new, old)
  held = {raw: i for i, raw in reversed(list(enumerate(_raw(old)))) if raw}
  cut = _Cutter(old)
  found = []
  for index, raw in enumerate(_raw(new)):
    if index in special:
      found.append(Spelling((special[index],), True))
    elif raw in held:
      found.append(Spelling((held[raw],), True))
    else:
      found.append(Spelling(cut(raw) if raw else (), False))
  return found


def _specials(new, old) -> dict[int, int]:
  """New id -> old id of special tokens, by name first, then by role."""
  by_role = {
    index: old.special_ids[role]
    for role, index in new.special_ids.items()
    if role in old.special_ids
  }
  by_name = {
    index: old.token_to_id(piece)
    for index, piece in enumerate(new.pieces)
    if new.is_special[index] and old.token_to_id(piece) is not None
  }
  return by_name | by_role


def _raw(tokenizer: Tokenizer) -> Iterator[bytes]:
  """The bytes of each piece, b"" for special tokens and unused places."""
  table = _bytes() if tokenizer.kind == "byte_bpe" else None
  for index, piece in enumerate(tokenizer.pieces):
    if tokenizer.is_special[index]:
      yield b""
    elif table:
      known = all(c in table for c in piece)
      yield bytes(table[c] for c in piece) if known else b""
    elif byte := _BYTE.fullmatch(piece):
      yield bytes([int(byte[1], 16)])
    elif tokenizer.kind in ("wordpiece", "wordlevel"):
      yield _wordpiece(piece, bool(tokenizer.word_starts[index]))
    else:
      yield piece.replace("▁", " ").encode()


def _wordpiece(piece: str, begins: bool) -> bytes:
  if not begins:
    return piece.removeprefix("##").encode()
  # A mark of punctuation is split off what it follows without a space.
  alone = len(piece) == 1 and not piece.isalnum()
  return (piece if alone else f" {piece}").encode()


class _Cutter:
  """Cuts the bytes of a piece as a vocabulary would inside a text."""

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    self._unknown = tokenizer.special_ids.get("unk", -1)
    self._byte_level = tokenizer.kind == "byte_bpe"
    raws = list(_raw(tokenizer))
    self._single = {raw: i for i, raw in enumerate(raws) if len(raw) == 1}
    self._anchors = self._words(raws)

  def _words(self, raws) -> list[tuple[str, list[int]]]:
    """Letters that are one piece at the beginning of a word."""
    found = []
    for raw in raws:
      text = raw.decode(errors="ignore").strip()
      if len(found) < _ANCHORS and len(text) == 1 and text.isalpha():
        ids = self._tokenizer.encode(text)
        if len(ids) == 1 and ids[0] != self._unknown:
          found.append((text, ids))
    return found

  def __call__(self, raw: bytes) -> tuple[int, ...]:
    try:
      text = raw.decode()
    except UnicodeDecodeError:  # a part of a character
      ids = [self._single.get(bytes([b]), self._unknown) for b in raw]
    else:
      begins = text.startswith(" ") or self._byte_level
      ids = self._encode(text) if begins else self._inside(text)
    return tuple(i for i in ids if i not in (self._unknown, -1))

  def _encode(self, text: str) -> list[int]:
    return self._tokenizer.encode(
      text if self._byte_level else text.removeprefix(" ")
    )

  def _inside(self, text: str) -> list[int]:
    """The pieces of a text that goes on a word."""
    for anchor, ids in self._anchors:
      whole = self._tokenizer.encode(anchor + text)
      if whole[:1] == ids and len(whole) > 1:
        return whole[1:]
    return self._tokenizer.encode(text)


@functools.cache
def _bytes() -> dict[str, int]:
  """The letter of each byte in a byte-level vocabulary (GPT-2).

  Bytes that are printable in Latin-1 stand for themselves, the others for
  the code points from 256 on, in their order.
  """
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [b for b in range(256) if b not in printable]
  table = {chr(b): b for b in printable}
  return table | {chr(256 + i): b for i, b in enumerate(others)}
