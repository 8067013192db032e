"""Vectors of words, which continuous outputs learn to hit.

A part is a frozen dataclass with

  key() -> plain data that tells vectors apart (hashes of files, settings).
  make(documents, tokenizer, seed) -> something with `of(words)`, which gives
    float32 [words, width], zeros where nothing is known of a word.

`documents` opens a stream of texts, and `tokenizer.words` cuts one into words.
"""

from jaxlm.registry import Registry

vectors = Registry("vectors", __name__)
