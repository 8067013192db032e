"""Vocabulary files: ours, Hugging Face's, BERT's, GPT-2's, SentencePiece's."""

import json
import pathlib
from typing import Any

import tokenizers as library

from jaxlm import errors, files
from jaxlm.data import _foreign, _roles, tokenizer

JSON, SPEC = "tokenizer.json", "tokenizer.spec.json"
FORMAT = 1
_FOREIGN = (
  "vocab.txt",
  "vocab.json",
  "spiece.model",
  "sentencepiece.bpe.model",
  "sentencepiece.model",
  "tokenizer.model",
  "spm.model",
)


def read(path) -> tuple[str, dict[str, str], dict[str, Any]]:
  """(text of the tokenizer.json, role -> token, facts) of any known format."""
  path = pathlib.Path(path).expanduser()
  if path.is_dir():
    path = _in_folder(path)
  if not path.is_file():
    near = [p.name for p in path.parent.glob("*")]
    raise errors.UserError(
      f"tokenizer.path: no file '{path}'.{errors.nearest(path.name, near)}"
    )
  try:
    if path.suffix == ".json" and path.name != "vocab.json":
      return _read_json(path)
    return _foreign.read(path)
  except (UnicodeDecodeError, json.JSONDecodeError) as error:
    raise errors.UserError(
      f"tokenizer.path: '{path}' cannot be read as a vocabulary: {error}"
    ) from error


def _in_folder(folder) -> pathlib.Path:
  for name in (JSON, *_FOREIGN):
    if (folder / name).is_file():
      return folder / name
  held = sorted(p.name for p in folder.iterdir())
  raise errors.UserError(
    f"tokenizer.path: the folder '{folder}' holds no vocabulary. Expected one "
    f"of {', '.join((JSON, *_FOREIGN))}; found {', '.join(held) or 'nothing'}."
  )


def _read_json(path):
  text = path.read_text(encoding="utf-8")
  if (path.parent / SPEC).is_file() and path.name == JSON:
    return _read_ours(path, text)
  made = tokenizer.pipeline(text)
  specials = _roles.guess(made.get_vocab(True))
  specials |= _foreign.declared(path.parent)
  return _foreign.finished(made, specials, {"loaded": path.name})


def _read_ours(path, text):
  spec = json.loads((path.parent / SPEC).read_text(encoding="utf-8"))
  if files.digest(text) != spec.get("text_sha256"):
    raise errors.UserError(
      f"'{path}' does not belong to the {SPEC} beside it: it was changed or "
      "half-written. Delete both to make the vocabulary anew."
    )
  return text, spec["specials"], spec["facts"]


def write(made: "tokenizer.Tokenizer", folder) -> None:
  """Writes tokenizer.json and tokenizer.spec.json."""
  folder = pathlib.Path(folder)
  if (folder / SPEC).is_file():
    held = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    if held.get("sha256") == made.sha256 and (folder / JSON).is_file():
      return
    raise errors.UserError(
      f"'{folder}' already holds another vocabulary "
      f"({held.get('sha256', '?')[:12]}, not {made.sha256[:12]}); it is not "
      "overwritten. Use another folder, or delete that one."
    )
  unfinished = folder / JSON
  if unfinished.is_file() and unfinished.read_text("utf-8") != made.text:
    raise errors.UserError(
      f"'{unfinished}' already holds another vocabulary; it is not "
      "overwritten. Use another folder, or delete that file."
    )
  # The spec comes last: a tokenizer.json without one was not finished.
  _put(folder, made.text, {SPEC: _spec(made)})


def _spec(made) -> dict[str, Any]:
  return {
    "format": FORMAT,
    "kind": made.kind,
    "vocab_size": made.vocab_size,
    "specials": made.specials,
    "special_ids": made.special_ids,
    "sha256": made.sha256,
    "text_sha256": files.digest(made.text),
    "facts": made.facts,
    "tokenizers": library.__version__,
  }


def _put(folder, text: str, values: dict[str, Any]) -> None:
  try:
    with files.replacing(folder / JSON) as file:
      file.write(text)
    for name, value in values.items():
      files.write_json(folder / name, value)
  except OSError as error:
    raise errors.UserError(
      f"The vocabulary cannot be written to '{folder}': "
      f"{error.strerror or error}."
    ) from error


def write_hf(made: "tokenizer.Tokenizer", folder, model_max_length) -> None:
  """Writes the three files of a Hugging Face tokenizer."""
  folder = pathlib.Path(folder)
  named = {
    f"{role}_token": token
    for role, token in made.specials.items()
    if role not in _doubles(made)
  }
  config = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
    "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    **named,
  }
  if model_max_length is not None:
    config["model_max_length"] = int(model_max_length)
  _put(
    folder,
    made.text,
    {"special_tokens_map.json": named, "tokenizer_config.json": config},
  )


def _doubles(made) -> tuple[str, ...]:
  """Roles that only repeat BERT's brackets; BERT itself leaves them unset."""
  ours = made.specials
  return tuple(
    role
    for role, bracket in (("bos", "cls"), ("eos", "sep"))
    if ours.get(role, "").startswith("[")
    and ours.get(role) == ours.get(bracket)
  )
