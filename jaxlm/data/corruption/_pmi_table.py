"""PMI's vocabulary as token ids, hashed: what rows are looked up in. Numpy."""

import unicodedata
from typing import NamedTuple

import numpy as np

from jaxlm.data import pmi
from jaxlm.errors import UserError

LONGEST = 8  # words as the tokenizer cuts them: it may cut more often
# An odd number has an inverse modulo 2**64, so a hash can be moved.
_BASE = 0x9E3779B97F4A7C15
_UNMOVE = pow(_BASE, -1, 1 << 64)


class Table(NamedTuple):
  """The vocabulary of a tokenizer.

  Attributes:
    hashes: int64, sorted, of the token ids of each run of words.
    sizes: how many words these have, ascending.
    values: int64 [vocab], a random number for each token.
    begins: bool [vocab], tokens that begin a word.
    ends: bool [vocab], tokens behind which a word begins.
  """

  hashes: np.ndarray
  sizes: tuple[int, ...]
  values: np.ndarray
  begins: np.ndarray
  ends: np.ndarray


def read(path, tokenizer) -> Table:
  """Reads what `jaxlm pmi` wrote, and spells it with a tokenizer.

  Raises:
    UserError: no such file, or runs that the tokenizer cannot spell.
  """
  runs = [run.text for run in pmi.read(path)]
  punctuation = _punctuation(tokenizer)
  begins = np.asarray(tokenizer.word_starts, bool) | punctuation
  values = np.random.Philox(key=0).random_raw(len(begins)).view(np.int64)
  hashes, sizes, spelled = set(), set(), set()
  for text, ids in _spelled(runs, tokenizer):
    ids = np.asarray(ids)
    first = begins[ids] | np.concatenate([[True], punctuation[ids[:-1]]])
    if 2 <= (size := int(first.sum())) <= LONGEST:
      spelled.add(text)
      sizes.add(size)
      hashes.add(int(hashed(values[ids])))
  if 2 * len(spelled) < len(runs):
    raise UserError(
      f"data.corruption.unit.vocabulary is '{path}', and this tokenizer spells "
      f"only {len(spelled):,} of its {len(runs):,} runs of words: they are of "
      "another language or script. Make one of your corpus: jaxlm pmi "
      "--files=... --out=..."
    )
  table = np.array(sorted(hashes), np.int64)
  return Table(table, tuple(sorted(sizes)), values, begins, punctuation)


def powers(count: int, inverse: bool = False) -> np.ndarray:
  """int64 [count], powers of the base, or of its inverse, modulo 2**64."""
  base = np.uint64(_UNMOVE if inverse else _BASE)
  steps = np.full(count, base, np.uint64)
  steps[:1] = 1
  return np.multiply.accumulate(steps).view(np.int64)


def hashed(values) -> np.int64:
  """The hash of a run of tokens: a polynomial modulo 2**64."""
  return np.sum(values * powers(len(values)), dtype=np.int64)


def _spelled(runs, tokenizer):
  """(run, ids) for every way in which text may write it."""
  ways = [lambda text: text]
  some = runs[:100]
  large = [text.upper() for text in some]
  if tokenizer.encode_batch(some) != tokenizer.encode_batch(large):
    ways += [_capitalized, str.title, str.upper]
  unknown = tokenizer.special_ids.get("unk")
  for way in ways:
    for before in ("", " "):  # which byte-level pieces tell apart
      texts = [before + way(text) for text in runs]
      for text, ids in zip(runs, tokenizer.encode_batch(texts)):
        if ids and unknown not in ids:
          yield text, ids


def _capitalized(text: str) -> str:
  return text[:1].upper() + text[1:]


def _punctuation(tokenizer) -> np.ndarray:
  """bool [vocab]: tokens that are nothing but punctuation."""
  texts = (tokenizer.decode([i]) for i in range(tokenizer.vocab_size))
  return np.array([_is_punctuation(text.strip()) for text in texts])


def _is_punctuation(text: str) -> bool:
  # Half a character of a byte-level piece decodes to U+FFFD.
  return bool(text) and all(
    unicodedata.category(c)[0] in "PS" and c != "\ufffd" for c in text
  )
