"""One tokenizer for all vocabularies, without TensorFlow.

It wraps a pipeline of the `tokenizers` library (WordPiece, BPE, Unigram);
SentencePiece models are turned into one when they are read. Training, feeding,
filling masks and the export for `transformers` thus all split text alike.
"""

import functools
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers as library

from jaxlm import errors
from jaxlm.data import _roles, _template
from jaxlm.data._roles import ROLES

_UNUSED = re.compile(r"\[unused\d+\]|<extra_id_\d+>|madeupword\d+")


class Tokenizer:
  """Text to ids and back, with what masking and packing must know of the ids.

  Tokenizers are equal when their `sha256` is, and can be pickled.

  Attributes:
    kind: "wordpiece", "byte_bpe", "bpe", "unigram" or "wordlevel".
    specials: role -> token, for the roles it has among pad, unk, cls, sep,
      mask, bos and eos.
    facts: how it was made, plain data.
    sha256: identity of its pipeline and roles.
  """

  def __init__(
    self,
    text: str,
    specials: Mapping[str, str],
    facts: Mapping[str, Any] | None = None,
  ):
    """Builds one from the text of a tokenizer.json.

    Raises:
      UserError: the text is not a tokenizer, or a role names no token of it.
    """
    self.text = text
    self.specials = {r: specials[r] for r in ROLES if r in specials}
    self.facts = dict(facts or {})
    self.sha256 = hashlib.sha256(
      (text + json.dumps(self.specials)).encode()
    ).hexdigest()
    self._start()

  def _start(self):
    self._pipeline = pipeline(self.text)
    # Text is data: "[MASK]" written in a corpus must not become the mask.
    self._pipeline.encode_special_tokens = True
    self.special_ids = _roles.ids(self._pipeline, self.specials)
    self._single, self._pair = _template.templates(
      self._pipeline, self.special_ids.get("eos")
    )
    self.kind = _roles.kind(json.loads(self.text))

  @classmethod
  def load(cls, path) -> "Tokenizer":
    """Reads a vocabulary of any known format.

    Args:
      path: a folder of `save` or of Hugging Face, or one file: tokenizer.json,
        BERT's vocab.txt, GPT-2's or RoBERTa's vocab.json beside merges.txt, a
        SentencePiece .model.

    Raises:
      UserError: no such file, or one that cannot be read as a vocabulary.
    """
    from jaxlm.data import _tokenizer_files

    return cls(*_tokenizer_files.read(path))

  def save(self, folder) -> None:
    """Writes tokenizer.json and tokenizer.spec.json, each atomically.

    Raises:
      UserError: the folder already holds another vocabulary.
    """
    from jaxlm.data import _tokenizer_files

    _tokenizer_files.write(self, folder)

  def save_hf(self, folder, *, model_max_length: int | None = None) -> None:
    """Writes what `transformers` loads as a PreTrainedTokenizerFast.

    Args:
      folder: where; made if need be.
      model_max_length: the longest input of the model that it belongs to.
    """
    from jaxlm.data import _tokenizer_files

    _tokenizer_files.write_hf(self, folder, model_max_length)

  def encode_batch(
    self, texts: Sequence[str], *, specials: bool = False
  ) -> list[list[int]]:
    """Ids of each text, without brackets.

    Args:
      texts: strings.
      specials: read special tokens written in the text ("[MASK]") as such;
        else they are text like any other.
    """
    pipeline = self._reading_specials if specials else self._pipeline
    found = pipeline.encode_batch_fast(list(texts), add_special_tokens=False)
    return [encoding.ids for encoding in found]

  def encode(self, text: str, *, specials: bool = False) -> list[int]:
    """Ids of one text, without brackets; batches are faster."""
    return self.encode_batch([text], specials=specials)[0]

  def decode(self, ids: Sequence[int], *, specials: bool = False) -> str:
    """The text of ids, special tokens left out unless `specials`."""
    ids = np.asarray(ids, dtype=np.int64).tolist()
    return self._pipeline.decode(ids, skip_special_tokens=not specials)

  def normalize(self, text: str) -> str:
    """The text as the vocabulary sees it: Unicode form, case, white space."""
    normalizer = self._pipeline.normalizer
    return text if normalizer is None else normalizer.normalize_str(text)

  def cuts_at_marks(self, word: str) -> bool:
    """Whether words are split in front of a combining mark, as by GPT-2."""
    parts = self._pipeline.pre_tokenizer
    if parts is None:
      return False
    word = self.normalize(word)
    starts = [span[0] for _, span in parts.pre_tokenize_str(word)]
    return any(unicodedata.category(word[i])[0] == "M" for i in starts if i)

  def words(self, text: str) -> list[str]:
    """The text normalised and cut into words, before the vocabulary is asked.

    Of a vocabulary of words ("wordlevel") these are its pieces, and those that
    it does not know.
    """
    cut = self._pipeline.pre_tokenizer.pre_tokenize_str(self.normalize(text))
    return [word for word, _ in cut]

  def bracket(
    self, a: Sequence[int], b: Sequence[int] | None = None
  ) -> tuple[list[int], list[int]]:
    """Ids with the special tokens of the model around, and sentence types.

    BERT: `[CLS] a [SEP]`, `[CLS] a [SEP] b [SEP]` with types 0 and 1.
    RoBERTa: `<s> a </s>`, `<s> a </s></s> b </s>`, types 0. GPT-2, which has
    no such convention: `a <|endoftext|>`.
    """
    return self._single.fill(a) if b is None else self._pair.fill(a, b)

  def overhead(self, pair: bool = False) -> int:
    """How many tokens `bracket` adds."""
    return (self._pair if pair else self._single).overhead

  @property
  def front(self) -> int:
    """How many tokens `bracket` puts in front of the first text."""
    return len(self._single.around[0])

  def summary_position(self, ids: Sequence[int]) -> int:
    """Where a bracketed row is read as a whole: the first token or the last.

    The last where nothing stands in front, as with GPT-2.
    """
    return 0 if self.front else len(ids) - 1

  def id_to_token(self, index: int) -> str | None:
    """The piece of an id as the vocabulary spells it."""
    return self._pipeline.id_to_token(int(index))

  def token_to_id(self, token: str) -> int | None:
    """The id of a piece."""
    return self._pipeline.token_to_id(token)

  @functools.cached_property
  def vocab_size(self) -> int:
    """Highest id plus one."""
    return max(self._pipeline.get_vocab(True).values()) + 1

  @functools.cached_property
  def pieces(self) -> list[str]:
    """The piece of every id; "" where an id has none."""
    pieces = [""] * self.vocab_size
    for piece, index in self._pipeline.get_vocab(True).items():
      pieces[index] = piece
    return pieces

  @functools.cached_property
  def is_special(self) -> np.ndarray:
    """Which ids are special tokens, bool [vocab]."""
    table = np.zeros(self.vocab_size, bool)
    for index, token in self._pipeline.get_added_tokens_decoder().items():
      table[index] = token.special
    table[list(self.special_ids.values())] = True
    return table

  @functools.cached_property
  def word_starts(self) -> np.ndarray:
    """Which ids begin a word, bool [vocab]; special tokens do.

    By the piece's own mark: no "##" (WordPiece), a leading space (byte-level
    BPE "Ġ", SentencePiece "▁"). The first token of a text also begins a
    word, which no table can tell.
    """
    begins = _roles.word_start(json.loads(self.text))
    return np.array([begins(p) for p in self.pieces], bool) | self.is_special

  @functools.cached_property
  def random_pool(self) -> np.ndarray:
    """Ids that may stand in for a masked token, int32, ascending.

    All but special tokens, unused places and sentinels.
    """
    usable = [bool(p) and not _UNUSED.fullmatch(p) for p in self.pieces]
    return np.flatnonzero(np.array(usable) & ~self.is_special).astype(np.int32)

  @property
  def pad_id(self) -> int:
    """Id of padding; the end of text or 0 for a vocabulary without one."""
    return self.special_ids.get("pad", self.special_ids.get("eos", 0))

  @property
  def unk_id(self) -> int:
    """Id of what the vocabulary cannot spell."""
    return self.id_of("unk")

  @property
  def cls_id(self) -> int:
    """Id in front of a text."""
    return self.id_of("cls")

  @property
  def sep_id(self) -> int:
    """Id behind a text."""
    return self.id_of("sep")

  @property
  def mask_id(self) -> int:
    """Id of the mask."""
    return self.id_of("mask")

  @property
  def bos_id(self) -> int:
    """Id of the beginning of a document."""
    return self.id_of("bos")

  @property
  def eos_id(self) -> int:
    """Id of the end of a document."""
    return self.id_of("eos")

  def id_of(self, role: str) -> int:
    """Id of a role.

    Raises:
      UserError: this vocabulary has no such token.
    """
    if role not in self.special_ids:
      raise errors.UserError(
        f"The tokenizer has no {role} token, which is needed here. It has: "
        f"{', '.join(f'{r} {t}' for r, t in self.specials.items())}."
      )
    return self.special_ids[role]

  @functools.cached_property
  def _reading_specials(self):
    return pipeline(self.text)

  def __len__(self):
    return self.vocab_size

  def __eq__(self, other):
    return isinstance(other, Tokenizer) and self.sha256 == other.sha256

  def __hash__(self):
    return hash(self.sha256)

  def __repr__(self):
    return (
      f"Tokenizer(kind={self.kind!r}, vocab_size={self.vocab_size}, "
      f"sha256={self.sha256[:12]!r})"
    )

  def __getstate__(self):
    return {
      k: getattr(self, k) for k in ("text", "specials", "facts", "sha256")
    }

  def __setstate__(self, state):
    self.__dict__.update(state)
    self._start()


def pipeline(text: str) -> library.Tokenizer:
  """The live pipeline of a tokenizer.json, without truncation and padding.

  Raises:
    UserError: it cannot be read.
  """
  try:
    made = library.Tokenizer.from_str(text)
  except Exception as error:  # the library raises bare Exception
    raise errors.UserError(
      f"This is not a tokenizer.json that the tokenizers library reads: {error}"
    ) from error
  made.no_truncation()
  made.no_padding()
  return made
