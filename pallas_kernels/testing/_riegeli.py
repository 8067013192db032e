"""Reads the record files in which XLA serializes its GPU programs.

Riegeli/records (https://github.com/google/riegeli, doc/riegeli_records_
file_format.md): blocks of 64 KiB that begin with a header, chunks of records
written across them, and their values compressed by snappy. Only what XLA
writes is understood: simple chunks, raw or snappy.
"""

import struct
from collections.abc import Iterator

_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 1 << 16, 24, 40
# A file's first block header: its hash, no chunk before, the next at 64.
_SIGNATURE = bytes.fromhex("83af70d10d884a3f") + struct.pack("<QQ", 0, 64)


def values(blob: bytes) -> Iterator[bytes]:
  """The decompressed values of every chunk of every file inside `blob`.

  Files inside of files are read too: newer versions of jax nest them.
  """
  start = blob.find(_SIGNATURE)
  while start >= 0:
    read = 1
    for value, end in _chunks(_without_headers(blob[start:])):
      read = _with_headers(end)
      if value:
        yield value
        yield from values(value)
    # Go on behind the file: a signature inside of it is a nested file's.
    start = blob.find(_SIGNATURE, start + read)


def _without_headers(data: bytes) -> bytes:
  starts = range(0, len(data), _BLOCK)
  return b"".join(data[i + _BLOCK_HEADER : i + _BLOCK] for i in starts)


def _with_headers(size: int) -> int:
  """Bytes that `size` bytes of chunks take in a file."""
  blocks = -(-size // (_BLOCK - _BLOCK_HEADER))
  return size + blocks * _BLOCK_HEADER


def _chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
  """(values of a chunk, where it ends); b'' for chunks without records."""
  place = 0
  while place + _CHUNK_HEADER <= len(data):
    (size,) = struct.unpack_from("<Q", data, place + 8)
    kind = data[place + 24 : place + 25]
    begin = place + _CHUNK_HEADER
    place = begin + size
    if kind not in (b"s", b"r", b"p", b"m") or place > len(data):
      return  # the file ended before
    yield (_simple(data[begin:place]) if kind == b"r" else b""), place


def _simple(chunk: bytes) -> bytes:
  """Values of a simple chunk: compression, sizes of records, values."""
  compression = chunk[:1]
  sizes, place = _varint(chunk, 1)
  place += sizes
  if compression == b"\0":
    return chunk[place:]
  if compression != b"s":
    raise ValueError(f"records compressed by {compression!r}, not by snappy")
  _, place = _varint(chunk, place)  # the decompressed size, told twice
  return _snappy(chunk, place)


def _snappy(data: bytes, place: int) -> bytes:
  """https://github.com/google/snappy/blob/main/format_description.txt."""
  size, place = _varint(data, place)
  out = bytearray()
  while len(out) < size:
    tag, place = data[place], place + 1
    kind, high = tag & 3, tag >> 2
    if kind == 0:
      extra = max(high - 59, 0)
      length = int.from_bytes(data[place : place + extra], "little")
      length = (length if extra else high) + 1
      place += extra
      out += data[place : place + length]
      place += length
      continue
    bytes_of_offset = (1, 2, 4)[kind - 1]
    offset = int.from_bytes(data[place : place + bytes_of_offset], "little")
    place += bytes_of_offset
    length = high + 1
    if kind == 1:
      length, offset = (high & 7) + 4, offset | (high >> 3) << 8
    begin = len(out) - offset
    piece = out[begin : begin + length]
    # A copy may reach into what it is writing: it repeats.
    out += (piece * (length // len(piece) + 1))[:length]
  return bytes(out)


def _varint(data: bytes, place: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    byte = data[place]
    value |= (byte & 127) << shift
    place, shift = place + 1, shift + 7
    if byte < 128:
      return value, place
