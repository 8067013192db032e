"""fastText's two kinds of files: text (.vec) and models (.bin)."""

import collections
import gzip
import pathlib
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from jaxlm import errors
from jaxlm.data.vectors import _ngrams

_MAGIC, _VERSION = 793712314, 12
_SETTINGS = "<12id"  # dim, ws, ..., bucket, minn, maxn, lrUpdateRate, t
_SPELLED = (3, 6)  # n-grams by which a .vec file tells unknown words
_SEEN = 200_000  # of its words, the most frequent ones, that tell them


class TextVectors:
  """Vectors of a .vec file, read for the words that are asked for.

  A word that is not in the file has the mean of its n-grams, and an n-gram the
  mean of the words that hold it, among the file's first 200,000: such a file
  has no n-grams of its own.

  Attributes:
    path: the file; gzip where it ends in .gz.
  """

  def __init__(self, path: pathlib.Path):
    self.path = path

  def of(self, words: Sequence[str]) -> np.ndarray:
    """float32 [words, width]; zeros where no n-gram is known either."""
    wanted = set(words)
    found = {w: v for w, v in self._rows() if w in wanted}
    held = {word: _numbers(text) for word, text in found.items()}
    width = self._width()
    held |= self._spelled(sorted(wanted - held.keys()), width)
    made = np.zeros((len(words), width), np.float32)
    for place, word in enumerate(words):
      made[place] = held.get(word, 0.0)
    return made

  def _spelled(self, words, width):
    """word -> the mean of its n-grams, for words not in the file."""
    grams = {word: _ngrams.ngrams(word, _SPELLED) for word in words}
    sums = {g: np.zeros(width) for parts in grams.values() for g in parts}
    counts = collections.Counter()
    for number, (word, text) in enumerate(self._rows() if words else ()):
      if number == _SEEN:
        break
      shared = sums.keys() & set(_ngrams.ngrams(word, _SPELLED))
      for gram in shared:
        sums[gram] += _numbers(text)
        counts[gram] += 1
    known = lambda word: [sums[g] / counts[g] for g in grams[word] if counts[g]]
    return {word: np.mean(known(word), 0) for word in words if known(word)}

  def _rows(self) -> Iterator[tuple[str, str]]:
    """(word, its numbers as text) of every line."""
    width = self._width()
    with _open(self.path) as file:
      for number, raw in enumerate(file):
        word, _, numbers = (
          raw.decode("utf-8", "replace").rstrip().partition(" ")
        )
        count = numbers.count(" ") + 1
        if number == 0 and count == 1:
          continue  # the header: words and width
        if count != width:
          raise errors.UserError(
            f"data.vectors.path: line {number + 1} of '{self.path}' has "
            f"{count} numbers and the first {width}; a file of vectors has as "
            "many on each line."
          )
        yield word, numbers

  def _width(self) -> int:
    with _open(self.path) as file:
      first = file.readline().decode("utf-8", "replace").split()
      line = file.readline().decode("utf-8", "replace").split()
    found = int(first[1]) if _is_header(first) else len(line or first) - 1
    if found < 1:
      raise errors.UserError(
        f"data.vectors.path: '{self.path}' holds no vectors; each line is a "
        "word and its numbers, as fastText's .vec files have it."
      )
    return found


def _is_header(words) -> bool:
  return len(words) == 2 and all(word.isdigit() for word in words)


def _numbers(text: str) -> np.ndarray:
  return np.array(text.split(" "), np.float32)


def model(path: pathlib.Path) -> _ngrams.NgramVectors:
  """The vectors of a .bin file, its n-grams included.

  Raises:
    UserError: no model of fastText, or one whose weights are quantized.
  """
  with _open(path) as file:
    try:
      return _model(file)
    except (struct.error, ValueError, UnicodeDecodeError) as error:
      raise errors.UserError(
        f"data.vectors.path: '{path}' is no .bin file of fastText that can be "
        f"read: {error}."
      ) from error


def _model(file) -> _ngrams.NgramVectors:
  new = _take(file, "<2i") == (_MAGIC, _VERSION)
  if not new:  # files of 2016 begin with the settings
    file.seek(0)
  settings = _take(file, _SETTINGS)
  width, orders = settings[0], settings[9:11]
  if not (0 < width < 1 << 16 and 0 <= orders[0] <= orders[1] < 1 << 8):
    raise ValueError(f"its settings would be {settings}")
  index = _words(file, new)
  if new and _take(file, "<?")[0]:
    raise ValueError("its weights are quantized")
  rows, columns = _take(file, "<2q")
  if columns != width:
    raise ValueError(f"its table has {columns} columns, its settings {width}")
  matrix = np.frombuffer(file.read(4 * rows * width), "<f4")
  matrix = matrix.reshape(rows, width)
  return _ngrams.NgramVectors(
    index, matrix[: len(index)], matrix[len(index) :], orders
  )


def _words(file, new: bool) -> dict[str, int]:
  """word -> its row; labels of classifiers have none."""
  size, _, _, _ = _take(file, "<3iq")
  if new and _take(file, "<q")[0] > 0:
    raise ValueError("its n-grams are pruned, as with quantized weights")
  index = {}
  for number in range(size):
    word = _string(file)
    if _take(file, "<qb")[1] == 0:
      index[word] = number
  return index


def _take(file, form: str):
  return struct.unpack(form, file.read(struct.calcsize(form)))


def _string(file) -> str:
  raw = bytearray()
  while (byte := file.read(1)) != b"\0":
    if not byte:
      raise ValueError("it ends within its words")
    raw += byte
  return raw.decode("utf-8", "replace")


def _open(path):
  return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")
