"""Tokenizers as vocabularies of seqio.

`SeqioVocabulary` is a subclass of `seqio.Vocabulary` and is made when first
asked for: importing seqio takes some 15 s, which whoever only lists data sets
should not pay.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from jaxlm.data._seqio_vocabulary import SeqioVocabulary

__all__ = ["SeqioVocabulary"]


def __getattr__(name: str):
  if name == "SeqioVocabulary":
    from jaxlm.data._seqio_vocabulary import SeqioVocabulary

    return SeqioVocabulary
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
