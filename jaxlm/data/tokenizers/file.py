"""Reads a vocabulary of any known format."""

import dataclasses

from jaxlm.data.tokenizer import Tokenizer
from jaxlm.data.tokenizers import tokenizers


@tokenizers.register("file")
@dataclasses.dataclass(frozen=True)
class File:
  """A vocabulary that exists.

  Attributes:
    path: what `Tokenizer.load` reads: a folder of jaxlm or Hugging Face, a
      tokenizer.json, vocab.txt, vocab.json, or a .model.
  """

  path: str

  def make(self, documents, seed) -> Tokenizer:
    """Reads the vocabulary; documents and seed are not looked at."""
    del documents, seed
    return Tokenizer.load(self.path)
