"""Unicode normalisation that keeps combining vowels and joiners."""

import re
import unicodedata
from collections.abc import Iterable

from tokenizers import Regex, normalizers

from jaxlm import errors

FORMS = ("nfc", "nfkc", "none")

# Controls, byte order marks, soft hyphens and replacement characters go; the
# joiners U+200C and U+200D stay, which BERT's own cleaning would drop: they
# change how Indic and Persian words are written.
_DROPPED = (
  r"[\x{0}-\x{8}\x{b}\x{c}\x{e}-\x{1f}\x{7f}-\x{9f}\x{ad}\x{feff}\x{fffd}]"
)
_ZERO_WIDTH_SPACE = "\u200b"  # parts words in Khmer and others
# White space other than one space: the expression is slow where it matches.
_SPACES = r"[^\S ][\s\x{200b}]*|\x{200b}[\s\x{200b}]*| [\s\x{200b}]+"

# Scripts that write vowels with combining marks, as code point ranges.
_VOWEL_SIGNS = re.compile(
  "[\u0780-\u07bf\u0900-\u109f\u1700-\u17ff\u1900-\u1cff\ua800-\uabff"
  "\U00011000-\U00011fff]"
)
SHARE = 1e-3  # of letters; a quotation in another script is no reason


def unicode_form(normalization: str, lowercase: bool, strip_accents: bool):
  """The steps that a user chooses, in their order."""
  steps = {
    "nfc": [normalizers.NFC()],
    "nfkc": [normalizers.NFKC()],
    "none": [],
  }[normalization]
  if lowercase:
    steps = [*steps, normalizers.Lowercase()]
  if strip_accents:
    steps = [
      *steps,
      normalizers.NFD(),
      normalizers.StripAccents(),
      normalizers.NFC(),
    ]
  return steps


def cleaning():
  """Drops what no reader sees."""
  return [normalizers.Replace(Regex(_DROPPED), "")]


def zero_width_spaces():
  """Makes them spaces."""
  return [normalizers.Replace(_ZERO_WIDTH_SPACE, " ")]


def spaces():
  """Leaves single spaces only, none at the ends."""
  return [normalizers.Replace(Regex(_SPACES), " "), normalizers.Strip()]


def refuse_if_vowels_are_lost(lines: Iterable[str]) -> None:
  """Refuses to strip accents where they are vowels.

  Raises:
    UserError: more than 0.1% of the letters are vowel signs that would go.
  """
  letters = lost = 0
  example = ""
  for line in lines:
    letters += sum(map(str.isalpha, line))
    for mark in _VOWEL_SIGNS.findall(line):
      if unicodedata.category(mark) == "Mn":
        lost += 1
        example = example or next(w for w in line.split() if mark in w)
  if lost > SHARE * letters:
    raise errors.UserError(
      f"tokenizer.strip_accents=True would delete vowel signs: '{example}' "
      f"would become '{_stripped(example)}' ({lost} signs beside {letters} "
      "letters in the sample). Set tokenizer.strip_accents=False; "
      "tokenizer.lowercase may stay."
    )


def vowel_signs(text: str) -> list[str]:
  """The combining marks of scripts that write vowels so."""
  if text.isascii():
    return []
  signs = _VOWEL_SIGNS.findall(text)
  return [c for c in signs if unicodedata.category(c)[0] == "M"]


def _stripped(word: str) -> str:
  parts = unicodedata.normalize("NFD", word)
  return "".join(c for c in parts if unicodedata.category(c) != "Mn")
