"""SentencePiece models as pipelines of the `tokenizers` library.

One backend for all vocabularies keeps training, export and inference alike.
The pieces, scores and normalisation table come from the model file; the
segmentation is the library's. They agree with SentencePiece itself but for
ties of scores (tests measure how often).
"""

import pathlib
import re

import tokenizers as library
from tokenizers import decoders, models, normalizers, pre_tokenizers

from jaxlm import errors
from jaxlm.data import _foreign, _roles

_SPACE = "▁"
_UNIGRAM, _BPE = 1, 2  # TrainerSpec.ModelType
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3  # SentencePiece.Type


def read(path: pathlib.Path):
  """Reads a .model file; see `_foreign.read`."""
  model = parse(path.read_bytes(), str(path))
  return convert(model, normalizer(model), {"loaded": path.name})


def parse(data: bytes, name: str):
  """The protocol buffer of a model.

  Raises:
    UserError: the bytes are no model, or of a type without subwords.
  """
  from google.protobuf.message import DecodeError
  from sentencepiece import sentencepiece_model_pb2 as messages

  try:
    model = messages.ModelProto.FromString(data)
  except DecodeError as error:
    raise errors.UserError(
      f"tokenizer.path: '{name}' is not a SentencePiece model: {error}"
    ) from error
  if not model.pieces or model.trainer_spec.model_type not in (_UNIGRAM, _BPE):
    raise errors.UserError(
      f"tokenizer.path: '{name}' is not a Unigram or BPE model of "
      "SentencePiece; its word and character models are not read."
    )
  return model


def normalizer(model):
  """What the model does to a text before it cuts it."""
  spec = model.normalizer_spec
  steps = []
  if spec.precompiled_charsmap:
    steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
  if spec.remove_extra_whitespaces:
    steps += [
      normalizers.Strip(),
      normalizers.Replace(library.Regex(" {2,}"), " "),
    ]
  return normalizers.Sequence(steps)


def convert(model, normalizer, facts, *, specials=None, template=""):
  """(tokenizer.json text, role -> token, facts) of a parsed model.

  Args:
    model: of `parse`.
    normalizer: what is done to a text first.
    facts: passed through.
    specials: role -> token, where known; else told from the pieces' names.
    template: "bert", "roberta", "gpt2" or "t5", where known.
  """
  made = library.Tokenizer(_segmenter(model))
  made.normalizer = normalizer
  dummy = "always" if model.normalizer_spec.add_dummy_prefix else "never"
  space = pre_tokenizers.Metaspace(
    _SPACE,
    prepend_scheme=dummy,
    split=model.trainer_spec.split_by_whitespace,
  )
  made.pre_tokenizer = pre_tokenizers.Sequence([space, *_apart(model)])
  steps = [decoders.Metaspace(_SPACE, prepend_scheme=dummy)]
  if model.trainer_spec.byte_fallback:
    steps.insert(0, decoders.ByteFallback())
  made.decoder = decoders.Sequence(steps)
  made.add_special_tokens(
    [
      library.AddedToken(p.piece, special=True, normalized=False)
      for p in model.pieces
      if p.type in (_UNKNOWN, _CONTROL)
    ]
  )
  specials = specials or _specials(model)
  _bracket(made, specials, template)
  return _foreign.finished(made, specials, facts)


def _segmenter(model):
  fallback = model.trainer_spec.byte_fallback
  unknown = [i for i, p in enumerate(model.pieces) if p.type == _UNKNOWN]
  if model.trainer_spec.model_type == _UNIGRAM:
    return models.Unigram(
      [(p.piece, p.score) for p in model.pieces],
      unknown[0] if unknown else None,
      byte_fallback=fallback,
    )
  return models.BPE(
    {p.piece: i for i, p in enumerate(model.pieces)},
    _merges(model),
    unk_token=model.pieces[unknown[0]].piece if unknown else None,
    fuse_unk=True,
    byte_fallback=fallback,
  )


def _merges(model) -> list[tuple[str, str]]:
  """Every pair of pieces that joins to a piece, best score first."""
  ids = {p.piece: i for i, p in enumerate(model.pieces) if p.type == _NORMAL}
  found = []
  for piece, index in ids.items():
    score = model.pieces[index].score
    for cut in range(1, len(piece)):
      left, right = piece[:cut], piece[cut:]
      if left in ids and right in ids:
        found.append((-score, ids[left], ids[right], left, right))
  return [(left, right) for *_, left, right in sorted(found)]


def _apart(model) -> list:
  """Cuts names of control pieces in a text, or they would be found there.

  The pieces are in the vocabulary with a score of 0, the best there is.
  """
  if model.trainer_spec.model_type != _UNIGRAM:
    return []
  names = [p.piece for p in model.pieces if p.type in (_UNKNOWN, _CONTROL)]
  first: dict[str, list[str]] = {}
  for name in names:
    if len(name) > 1:
      first.setdefault(name[0], []).append(re.escape(name[1:]))
  if model.trainer_spec.byte_fallback:
    first.setdefault("<", []).append("0x[0-9A-F]{2}>")
  cuts = [f"{re.escape(c)}(?={'|'.join(rest)})" for c, rest in first.items()]
  if not cuts:
    return []
  # Cut behind the first character of the name, which stays where it is.
  pattern = library.Regex("|".join(cuts))
  return [pre_tokenizers.Split(pattern, "merged_with_previous")]


def _specials(model) -> dict[str, str]:
  held = [p for p in model.pieces if p.type in (_UNKNOWN, _CONTROL)]
  specials = _roles.guess({p.piece: 0 for p in held})
  for piece in held:
    if piece.type == _UNKNOWN:
      specials["unk"] = piece.piece
  return specials


def _bracket(made, specials, template) -> None:
  vocabulary = made.get_vocab(True)
  if "cls" in specials and "sep" in specials:
    style = "bert" if specials["cls"] == "[CLS]" else "roberta"
    made.post_processor = _foreign.brackets(
      template or style, specials, vocabulary
    )
  elif "eos" in specials and template in ("", "t5"):
    made.post_processor = _foreign.brackets("t5", specials, vocabulary)
