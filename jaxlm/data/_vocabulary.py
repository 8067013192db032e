"""The stage that makes the vocabulary of a workdir, or finds it made."""

import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxlm import files
from jaxlm.data import tokenizers
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.data.tokenizers import _fitting


def obtain(
  tokenizer: Tokenizer | Mapping[str, Any],
  folder,
  *,
  documents: Callable[[], Iterable[str]],
  sources: list[Mapping[str, Any]],
  seed: int,
  report: Callable[[str], None] = print,
) -> Tokenizer:
  """The tokenizer of a run, kept in `folder`.

  A vocabulary is trained once: the next time, if the spec, the seed and the
  hashes of the sources are the same, it is read, and `report` says so.

  Args:
    tokenizer: a Tokenizer, or a spec of `tokenizers`.
    folder: where it is kept, such as `workdir/tokenizer`.
    documents: opens the stream of documents, to train on, or to see whether a
      vocabulary that exists suits them.
    sources: fingerprint of the files behind the documents.
    seed: seed of the sample.
    report: told what was done.

  Raises:
    UserError: a spec that cannot be followed, a folder that holds another
      vocabulary, or one that deletes vowel signs of the documents.
  """
  folder = pathlib.Path(folder)
  if isinstance(tokenizer, Tokenizer):
    _fitting.check(tokenizer, documents(), report)
    tokenizer.save(folder)
    return tokenizer
  tokenizers.tokenizers.check(tokenizer)
  if tokenizer.get("path"):
    made = tokenizers.train(tokenizer, (), seed)
    _fitting.check(made, documents(), report)
    made.save(folder)
    return made
  key = _key(tokenizer, sources, seed)
  if (folder / "tokenizer.spec.json").is_file():
    held = Tokenizer.load(folder)
    if held.facts.get("inputs") == key:
      report(f"Vocabulary: unchanged, {held.vocab_size:,} pieces in {folder}.")
      return held
  made = tokenizers.train(tokenizer, documents(), seed)
  made.facts["inputs"] = key
  made.save(folder)
  report(f"Vocabulary: trained {made.vocab_size:,} pieces, in {folder}.")
  return made


def _key(spec, sources, seed) -> str:
  hashes = [source["sha256"] for source in sources]
  return files.digest({"spec": dict(spec), "sources": hashes, "seed": seed})
