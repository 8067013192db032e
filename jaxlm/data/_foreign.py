"""Vocabularies of other programs, turned into tokenizer.json text."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import tokenizers as library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from jaxlm import errors
from jaxlm.data import _roles, _sentencepiece

Read = tuple[str, dict[str, str], dict[str, Any]]


def read(path: pathlib.Path) -> Read:
  """Reads vocab.txt, vocab.json + merges.txt or a .model file.

  Raises:
    UserError: the name tells no known format, or the content is not of it.
  """
  if path.suffix == ".txt" and path.name != "merges.txt":
    return bert(path)
  if path.name in ("vocab.json", "merges.txt"):
    return gpt2(path)
  if path.suffix == ".model":
    return _sentencepiece.read(path)
  raise errors.UserError(
    f"tokenizer.path: '{path}' is of no known format. Known: tokenizer.json, "
    "vocab.txt, vocab.json beside merges.txt, a SentencePiece .model, or a "
    "folder with one of them."
  )


def bert(path: pathlib.Path) -> Read:
  """BERT's vocab.txt: one piece a line, the line number is the id.

  Whether it is lower-cased is told by the tokenizer_config.json beside it;
  without one, a vocabulary without any upper-case piece is.
  """
  pieces = path.read_text(encoding="utf-8").split("\n")
  while pieces and not pieces[-1].strip():
    pieces.pop()
  vocabulary = {p.rstrip("\r"): i for i, p in enumerate(pieces)}
  specials = _roles.guess(vocabulary)
  missing = [r for r in ("unk", "cls", "sep") if r not in specials]
  if missing:
    raise errors.UserError(
      f"tokenizer.path: '{path}' is no vocabulary of BERT: it has no "
      f"{', '.join(missing)} token such as [UNK], [CLS], [SEP]."
    )
  config = _json(path.parent / "tokenizer_config.json")
  names = set(specials.values())
  lower = not any(p != p.lower() for p in vocabulary if p not in names)
  made = library.Tokenizer(
    models.WordPiece(vocabulary, unk_token=specials["unk"])
  )
  made.normalizer = normalizers.BertNormalizer(
    lowercase=config.get("do_lower_case", lower),
    strip_accents=config.get("strip_accents"),
    handle_chinese_chars=config.get("tokenize_chinese_chars", True),
  )
  made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  # cleanup would turn "do not" into "don't".
  made.decoder = decoders.WordPiece(cleanup=False)
  specials |= declared(path.parent)
  made.post_processor = brackets("bert", specials, vocabulary)
  return finished(made, specials, {"loaded": path.name})


def gpt2(path: pathlib.Path) -> Read:
  """GPT-2's or RoBERTa's vocab.json and merges.txt."""
  folder = path.parent
  for name in ("vocab.json", "merges.txt"):
    if not (folder / name).is_file():
      raise errors.UserError(
        f"tokenizer.path: '{path}' needs '{folder / name}' beside it."
      )
  try:
    vocabulary, merges = models.BPE.read_file(
      str(folder / "vocab.json"), str(folder / "merges.txt")
    )
    made = library.Tokenizer(models.BPE(vocabulary, merges))
  except Exception as error:  # the library raises bare Exception
    raise errors.UserError(
      f"tokenizer.path: '{folder}' holds no vocabulary of GPT-2: {error}"
    ) from error
  specials = _roles.guess(vocabulary) | declared(folder)
  space = _json(folder / "tokenizer_config.json").get("add_prefix_space", False)
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
  made.decoder = decoders.ByteLevel()
  if "cls" in specials and "sep" in specials:
    made.post_processor = brackets("roberta", specials, vocabulary)
  else:
    made.post_processor = processors.ByteLevel(trim_offsets=False)
  return finished(made, specials, {"loaded": path.name})


def brackets(style: str, specials: Mapping[str, str], vocabulary):
  """The post-processor of "bert", "roberta" or "t5"."""
  if style == "t5":
    return _closing(specials["eos"], vocabulary)
  cls, sep = specials["cls"], specials["sep"]
  single = f"{cls}:0 $A:0 {sep}:0"
  second = f"$B:1 {sep}:1" if style == "bert" else f"{sep}:0 $B:0 {sep}:0"
  return processors.TemplateProcessing(
    single=single,
    pair=f"{single} {second}",
    special_tokens=[(t, vocabulary[t]) for t in dict.fromkeys((cls, sep))],
  )


def _closing(eos: str, vocabulary):
  return processors.TemplateProcessing(
    single=f"$A:0 {eos}:0",
    pair=f"$A:0 {eos}:0 $B:0 {eos}:0",
    special_tokens=[(eos, vocabulary[eos])],
  )


def declared(folder: pathlib.Path) -> dict[str, str]:
  """role -> token as a Hugging Face folder's own files say."""
  found = {}
  for name in ("special_tokens_map.json", "tokenizer_config.json"):
    values = _json(folder / name)
    for role in _roles.ROLES:
      token = values.get(f"{role}_token")
      token = token.get("content") if isinstance(token, dict) else token
      if token:
        found[role] = token
  return found


def finished(made, specials: Mapping[str, str], facts) -> Read:
  """Marks the special tokens as such and gives what a Tokenizer is made of.

  BERT's brackets are added to a pipeline that has the tokens for them but
  states none.
  """
  vocabulary = made.get_vocab(True)
  known = {role: t for role, t in specials.items() if t in vocabulary}
  if {"cls", "sep"} <= known.keys() and not made.num_special_tokens_to_add(
    False
  ):
    made.post_processor = brackets("bert", known, vocabulary)
  held = {t.content for t in made.get_added_tokens_decoder().values()}
  made.add_special_tokens(
    [
      library.AddedToken(t, special=True, lstrip=t == "<mask>")
      for t in dict.fromkeys(known.values())
      if t not in held
    ]
  )
  return made.to_str(), known, dict(facts)


def _json(path: pathlib.Path) -> dict[str, Any]:
  if not path.is_file():
    return {}
  return json.loads(path.read_text(encoding="utf-8"))
