"""What the tokens of a vocabulary are for, told from their names."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxlm import errors

ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
SENTINEL = "<extra_id_{}>"  # stands for a span (T5)

# First found wins. BERT has no bos and eos of its own: its brackets serve.
_NAMES = {
  "pad": ("[PAD]", "<pad>"),
  "unk": ("[UNK]", "<unk>", "<|endoftext|>"),
  "cls": ("[CLS]", "<cls>", "<s>"),
  "sep": ("[SEP]", "<sep>", "</s>"),
  "mask": ("[MASK]", "<mask>"),
  "bos": ("<s>", "[BOS]", "<bos>", "<|endoftext|>", "[CLS]"),
  "eos": ("</s>", "[EOS]", "<eos>", "<|endoftext|>", "[SEP]"),
}


def guess(vocabulary: Mapping[str, int]) -> dict[str, str]:
  """role -> token, by the usual names that the vocabulary holds."""
  found = {}
  for role, names in _NAMES.items():
    held = [name for name in names if name in vocabulary]
    if held:
      found[role] = held[0]
  return found


def ids(pipeline, specials: Mapping[str, str]) -> dict[str, int]:
  """role -> id.

  Raises:
    UserError: a role names a token that the vocabulary lacks.
  """
  found = {role: pipeline.token_to_id(t) for role, t in specials.items()}
  for role, index in found.items():
    if index is None:
      raise errors.UserError(
        f"The {role} token '{specials[role]}' is not in the vocabulary."
      )
  return found


def kind(description: Mapping[str, Any]) -> str:
  """The sort of vocabulary that a tokenizer.json describes."""
  name = description["model"].get("type", "").lower()
  return "byte_bpe" if name == "bpe" and _byte_level(description) else name


def word_start(description: Mapping[str, Any]) -> Callable[[str], bool]:
  """Tells from a piece whether it begins a word."""
  if _byte_level(description):
    # "Ċ", "ĉ", "č": line feed, tabulator, carriage return as bytes.
    return lambda piece: piece.startswith(("Ġ", "Ċ", "ĉ", "č"))
  if description["model"].get("type") == "WordPiece":
    prefix = description["model"].get("continuing_subword_prefix") or "##"
    return lambda piece: not piece.startswith(prefix)
  if description["model"].get("type") == "WordLevel":
    return lambda piece: True
  return lambda piece: piece.startswith("▁")


def _byte_level(description) -> bool:
  parts = [description.get("decoder"), description.get("pre_tokenizer")]
  for part in parts:
    nested = (part or {}).get("pretokenizers", (part or {}).get("decoders", []))
    if any(p.get("type") == "ByteLevel" for p in [part or {}, *nested]):
      return True
  return False
