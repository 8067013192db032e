"""Random vectors of n-grams: nothing is learned, spellings alone are near."""

import dataclasses
from typing import Any

import numpy as np

from jaxlm.data.vectors import _ngrams, vectors


@vectors.register("hashed", paper="own", example={"width": 64})
@dataclasses.dataclass(frozen=True)
class Hashed:
  """Means of normal numbers, drawn once for each bucket of n-grams.

  The control of trained vectors: words that share letters are near to each
  other, and nothing else is. Needs no file, no library and no training.

  Attributes:
    width: of the vectors.
    shortest, longest: characters of n-grams; the whole word counts, too.
    buckets: rows that n-grams share by a hash.
  """

  width: int = 64
  shortest: int = 3
  longest: int = 6
  buckets: int = 20_000

  def key(self) -> dict[str, Any]:
    """The settings."""
    return {"kind": "hashed", **dataclasses.asdict(self)}

  def make(self, documents, tokenizer, seed):
    """The table of n-grams, of a seed of its own."""
    del documents, tokenizer, seed
    random = np.random.Generator(np.random.Philox(key=self.buckets))
    grams = random.standard_normal((self.buckets, self.width), np.float32)
    return _Whole({}, grams[:0], grams, (self.shortest, self.longest))


class _Whole(_ngrams.NgramVectors):
  """N-grams and the word itself, in one table."""

  def _parts(self, word):
    own = _ngrams.fnv(word) % len(self.grams)
    return self.grams[
      [own, *_ngrams.hashes(word, self.orders, len(self.grams))]
    ]
