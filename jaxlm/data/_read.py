"""Finding files and reading their lines: plain, .gz or .zst, UTF-8 only."""

import contextlib
import glob
import gzip
import io
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from jaxlm import errors

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def find(files, key: str = "data.files") -> list[pathlib.Path]:
  """The files that a pattern means, sorted by path, each once.

  A file reached by several paths (links, `a.txt` and `./a.txt`) counts once.

  Args:
    files: a path, a folder (all its files, recursively, less hidden ones), a
      glob pattern, several of them separated by commas, or an iterable.
    key: the config key that messages name.

  Raises:
    UserError: a part matches nothing; the nearest existing name is told.
  """
  found: set[str] = set()
  parts = _parts(files)
  if not parts:
    raise errors.UserError(
      f"{key} is empty: expected a file, a folder, a pattern such as "
      "'corpus/*.txt', or several separated by commas."
    )
  for part in parts:
    found.update(_matches(part, key))
  first = {os.path.realpath(p): p for p in sorted(found, reverse=True)}
  return [pathlib.Path(p) for p in sorted(first.values())]


def _parts(files) -> list[str]:
  if isinstance(files, os.PathLike):
    return [os.fspath(files)]
  if isinstance(files, str):
    whole = os.path.expanduser(files)  # a name may itself hold a comma
    pieces = [files] if os.path.exists(whole) else files.split(",")
    return [p.strip() for p in pieces if p.strip()]
  return [part for item in files for part in _parts(item)]


def _matches(part: str, key: str) -> list[str]:
  path = os.path.expanduser(part)
  hits = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
  files = []
  for hit in hits:
    files += _below(hit) if os.path.isdir(hit) else [os.path.normpath(hit)]
  if not files:
    raise errors.UserError(f"{key}: {_missing(path, part)}")
  return files


def _below(folder: str) -> Iterator[str]:
  for place, folders, names in os.walk(folder):
    folders[:] = [f for f in folders if not f.startswith(".")]
    for name in names:
      if not name.startswith("."):
        yield os.path.normpath(os.path.join(place, name))


def _missing(path: str, part: str) -> str:
  if os.path.isdir(path):
    return f"the folder '{part}' holds no file."
  parent = os.path.dirname(path) or "."
  while not os.path.isdir(parent) and os.path.dirname(parent) != parent:
    path, parent = parent, os.path.dirname(parent) or "."
  names = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
  near = errors.nearest(os.path.basename(path), names)
  seen = f" '{parent}' holds: {', '.join(names[:8])}." if names else ""
  return (
    f"nothing matches '{part}' (looked in {os.path.abspath(parent)}).{near}"
    f"{seen}"
  )


@contextlib.contextmanager
def opened(path) -> Iterator[BinaryIO]:
  """A file's bytes, decompressed if its first bytes say gzip or zstd.

  Raises:
    UserError: the file cannot be read, or its compressed data is broken.
  """
  try:
    with open(path, "rb") as file:
      magic = file.read(4)
      file.seek(0)
      if magic.startswith(_GZIP):
        with gzip.open(file, "rb") as plain:
          yield plain
      elif magic == _ZSTD:
        yield io.BufferedReader(_Zstd(file), 1 << 17)
      else:
        yield file
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise errors.UserError(
      f"'{path}' is a broken gzip file ({error}); was its copy cut short?"
    ) from error
  except OSError as error:
    raise errors.UserError(
      f"'{path}' cannot be read: {error.strerror or error}."
    ) from error


class _Zstd(io.RawIOBase):
  """The plain bytes of a zstd file of any number of frames.

  zstandard's own reader ends in silence where a file was cut short; here the
  last frame must be whole.
  """

  def __init__(self, file):
    import zstandard  # here, so that plain text needs no further package

    self._file, self._zstandard = file, zstandard
    self._frame, self._left = None, b""
    self._plain = memoryview(b"")

  def readable(self):
    return True

  def readinto(self, buffer):
    while not self._plain and self._more():
      pass
    size = min(len(buffer), len(self._plain))
    buffer[:size] = self._plain[:size]
    self._plain = self._plain[size:]
    return size

  def _more(self) -> bool:
    data = self._left or self._file.read(1 << 17)
    if not data:
      if self._frame is not None:
        raise self._broken("its last frame has no end")
      return False
    if self._frame is None:
      self._frame = self._zstandard.ZstdDecompressor().decompressobj()
    try:
      self._plain = memoryview(self._frame.decompress(data))
    except self._zstandard.ZstdError as error:
      raise self._broken(error) from error
    self._left = self._frame.unused_data if self._frame.eof else b""
    if self._frame.eof:
      self._frame = None
    return True

  def _broken(self, why) -> errors.UserError:
    return errors.UserError(
      f"'{self._file.name}' is a broken zstd file ({why}); was its copy cut "
      "short?"
    )


def lines(path) -> Iterator[tuple[int, str]]:
  """(line number from 1, line without its end) of a UTF-8 file.

  Only newlines end a line: U+2028 and its kind stay inside.

  Raises:
    UserError: bytes that are not UTF-8, with file and line.
  """
  with opened(path) as file:
    for number, raw in enumerate(file, 1):
      try:
        line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
      except UnicodeDecodeError as error:
        raise errors.UserError(_not_utf8(path, number, raw, error)) from error
      yield number, line.rstrip("\r\n")


def _not_utf8(path, number, raw, error) -> str:
  coding = "UTF-16" if number == 1 and raw[:2] in _UTF16 else "ISO-8859-1"
  return (
    f"'{path}', line {number}: byte 0x{raw[error.start]:02x} at column "
    f"{error.start + 1} is not UTF-8. Convert the file first, for example "
    f"with: iconv -f {coding} -t UTF-8"
  )


def suffix(path) -> str:
  """The suffix that tells the format: '.tsv' of 'dev.tsv.gz', lower case."""
  names = [s.lower() for s in pathlib.Path(path).suffixes]
  if names and names[-1] in (".gz", ".zst"):
    names.pop()
  return names[-1] if names else ""
