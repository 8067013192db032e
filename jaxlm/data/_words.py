"""Text as words that n-grams are made of: lower case, cut at punctuation."""

import functools
import re
import sys
import unicodedata

# Letters, marks and digits make words in every script; what is left between
# them and is no white space is punctuation: an n-gram never runs across it.
_BETWEEN = ("P", "S", "Z", "C")


def words(text: str) -> list[str]:
  """The words of a text and, one by one, the punctuation between them."""
  text = unicodedata.normalize("NFC", text).lower()
  return _pattern().findall(text)


def is_word(found: str) -> bool:
  """Whether `words` found a word, and not punctuation."""
  return unicodedata.category(found[0])[0] not in _BETWEEN


@functools.cache
def _pattern() -> re.Pattern:
  between = _between()
  return re.compile(rf"[^{between}]+|[^\s\w]")


def _between() -> str:
  """The characters that are part of no word, as ranges of a regex class."""
  parts, start, last = [], None, None
  for code in range(sys.maxunicode + 1):
    if unicodedata.category(chr(code))[0] not in _BETWEEN:
      continue
    if last != code - 1:
      parts.append((start, last))
      start = code
    last = code
  parts.append((start, last))
  return "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in parts if a is not None)
