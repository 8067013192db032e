"""Vocabularies by kind: trained on a user's documents, or read from files."""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxlm.data.tokenizer import Tokenizer
from jaxlm.registry import Registry

tokenizers = Registry("tokenizer", __name__)


def train(
  spec: Mapping[str, Any], documents: Iterable[str], seed: int = 0
) -> Tokenizer:
  """The tokenizer that a spec describes.

  The same spec, documents and seed give the same bytes. Memory is bounded: a
  uniform sample of the lines is kept (`sample_lines`, `sample_characters`).

  Args:
    spec: such as `{"kind": "wordpiece", "vocab_size": 32768}`; with a `path`
      the vocabulary is read from there and no document is touched.
    documents: stream of documents, consumed once if a vocabulary is trained.
    seed: seed of the sample.

  Raises:
    UserError: an unknown kind or field, a vocabulary that cannot be trained
      as asked, or a path that cannot be read.
  """
  return tokenizers.build(spec).make(documents, seed)
