"""Reads a SentencePiece model (Kudo and Richardson, arXiv:1808.06226)."""

import dataclasses
import pathlib

from tokenizers import normalizers

from jaxlm import errors
from jaxlm.data import _sentencepiece
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.data.tokenizers import _normalizing, tokenizers


@tokenizers.register("sentencepiece", paper="arXiv:1808.06226")
@dataclasses.dataclass(frozen=True)
class SentencePiece:
  """A Unigram or BPE model from a .model file.

  Attributes:
    path: the .model file.
    lowercase: fold case before the model sees the text, which ALBERT does
      outside of its model.
    strip_accents: drop accents before the model sees the text, likewise.
  """

  path: str
  lowercase: bool = False
  strip_accents: bool = False

  def make(self, documents, seed) -> Tokenizer:
    """Reads the model; documents and seed are not looked at."""
    del documents, seed
    path = pathlib.Path(self.path).expanduser()
    if not path.is_file():
      near = [p.name for p in path.parent.glob("*")]
      raise errors.UserError(
        f"tokenizer.path: no file '{path}'.{errors.nearest(path.name, near)}"
      )
    model = _sentencepiece.parse(path.read_bytes(), str(path))
    first = _normalizing.unicode_form(
      "none", self.lowercase, self.strip_accents
    )
    normalizer = normalizers.Sequence(
      [*first, _sentencepiece.normalizer(model)]
    )
    return Tokenizer(
      *_sentencepiece.convert(model, normalizer, {"loaded": path.name})
    )
