"""Vectors of words as means over their n-grams, as fastText has them.

Bojanowski et al., arXiv:1607.04606; hash and borders are those of fastText
(Dictionary::hash, computeSubwords), so that its files can be read.
"""

from collections.abc import Mapping, Sequence

import numpy as np


class NgramVectors:
  """A vector for any word: the mean of its own row, if any, and its n-grams'.

  Attributes:
    index: word -> its row.
    rows: float [words, width].
    grams: float [buckets, width].
    orders: characters of the shortest and of the longest n-grams.
  """

  def __init__(
    self,
    index: Mapping[str, int],
    rows: np.ndarray,
    grams: np.ndarray,
    orders: tuple[int, int],
  ):
    self.index, self.rows = index, rows
    self.grams, self.orders = grams, orders

  def of(self, words: Sequence[str]) -> np.ndarray:
    """float32 [words, width]; zeros for a word without row and n-grams."""
    found = np.zeros((len(words), self.grams.shape[1]), np.float32)
    for place, word in enumerate(words):
      parts = self._parts(word)
      if len(parts):
        found[place] = parts.mean(axis=0)
    return found

  def _parts(self, word):
    buckets = hashes(word, self.orders, len(self.grams))
    parts = np.asarray(self.grams[buckets], np.float32)
    if word not in self.index:
      return parts
    return np.concatenate([self.rows[[self.index[word]]], parts])


def ngrams(word: str, orders: tuple[int, int]) -> list[str]:
  """The n-grams of a word between '<' and '>'; neither sign alone."""
  text = f"<{word}>"
  return [
    text[start : start + size]
    for start in range(len(text))
    for size in range(orders[0], min(orders[1], len(text) - start) + 1)
    if not (size == 1 and start in (0, len(text) - 1))
  ]


def hashes(word: str, orders: tuple[int, int], buckets: int) -> list[int]:
  """The bucket of each n-gram; none where there are no buckets."""
  return (
    [fnv(gram) % buckets for gram in ngrams(word, orders)] if buckets else []
  )


def fnv(text: str) -> int:
  """FNV-1a of 32 bits, whose bytes fastText takes as signed."""
  value = 2166136261
  for byte in text.encode():
    signed = byte - 256 if byte > 127 else byte
    value = ((value ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
  return value
