"""fastText's vectors, trained on the documents that a run trains on."""

import dataclasses
from typing import Any

from jaxlm import errors
from jaxlm.data.vectors import _ngrams, vectors

_MISSING = (
  "data.vectors of kind 'fasttext' are trained by gensim, which is not "
  "installed: pip install 'jaxlm[vectors]', or take vectors from a file, "
  "config.data.vectors=dict(kind='file', path='cc.en.300.bin')."
)


@vectors.register("fasttext", paper="arXiv:1607.04606", example={"width": 300})
@dataclasses.dataclass(frozen=True)
class FastText:
  """Skip-grams with subwords, by gensim, on one thread: the same every time.

  Attributes:
    width: of the vectors.
    window: words to each side that a word predicts.
    epochs: passes over the documents.
    negative: wrong words beside each right one.
    min_count: occurrences of a word that has a row of its own; others have
      their n-grams.
    shortest, longest: characters of n-grams.
    buckets: rows that n-grams share by a hash.
  """

  width: int = 300
  window: int = 5
  epochs: int = 5
  negative: int = 5
  min_count: int = 5
  shortest: int = 3
  longest: int = 6
  buckets: int = 200_000

  def key(self) -> dict[str, Any]:
    """The settings; the documents are those of the cache."""
    return {"kind": "fasttext", **dataclasses.asdict(self)}

  def make(self, documents, tokenizer, seed):
    """Trains on the words of the documents' lines.

    Raises:
      UserError: gensim is not there, or no word is frequent enough.
    """
    try:
      from gensim.models import fasttext
    except ImportError as error:
      raise errors.UserError(_MISSING) from error
    lines = [
      tokenizer.words(line)
      for text in documents()
      for line in text.split("\n")
      if line.strip()
    ]
    try:
      trained = fasttext.FastText(
        lines,
        vector_size=self.width,
        window=self.window,
        epochs=self.epochs,
        negative=self.negative,
        min_count=self.min_count,
        min_n=self.shortest,
        max_n=self.longest,
        bucket=self.buckets,
        sg=1,
        workers=1,  # more than one changes the numbers
        seed=seed % 2**32,
      ).wv
    except RuntimeError as error:  # "you must first build vocabulary"
      raise errors.UserError(
        f"data.vectors.min_count is {self.min_count}, and no word occurs so "
        "often: lower it, or add text."
      ) from error
    return _ngrams.NgramVectors(
      trained.key_to_index,
      trained.vectors_vocab,
      trained.vectors_ngrams,
      (self.shortest, self.longest),
    )
