"""A tokenizer small enough to check by hand."""

import hashlib

import numpy as np


class NumberTokenizer:
  """Texts are numbers, "7 12 9", and every number is its own token.

  Ids 0..4 are PAD, UNK, CLS, SEP and MASK; every third id goes on a word.
  """

  pad_id, unk_id, cls_id, sep_id, mask_id = range(5)

  def __init__(self, vocab_size=60):
    self.vocab_size = vocab_size
    ids = np.arange(vocab_size)
    self.is_special = ids < 5
    self.word_starts = (ids % 3 != 0) & ~self.is_special
    self.random_pool = ids[5:]
    self.special_ids = dict(pad=0, unk=1, cls=2, sep=3, mask=4)
    self.sha256 = hashlib.sha256(str(vocab_size).encode()).hexdigest()

  def encode_batch(self, texts):
    return [[int(word) for word in text.split()] for text in texts]

  def id_to_token(self, index):
    return {4: "[MASK]"}.get(int(index), str(index))

  def decode(self, ids, specials=False):
    return " ".join(str(int(i)) for i in ids)

  def bracket(self, a, b=None):
    ids, types = [2, *a, 3], [0] * (len(a) + 2)
    if b is not None:
      ids, types = [*ids, *b, 3], types + [1] * (len(b) + 1)
    return ids, types


class SentinelTokenizer(NumberTokenizer):
  """With <extra_id_0> ... from the last id down, and prefixes [A], [B], [C]."""

  sentinels = 12

  def __init__(self, vocab_size=80):
    super().__init__(vocab_size)
    self.first_sentinel = vocab_size - 1
    self.last_sentinel = vocab_size - self.sentinels
    self.random_pool = np.arange(5, self.last_sentinel - 3)

  def token_to_id(self, token):
    if token in ("[A]", "[B]", "[C]"):
      return self.last_sentinel - 3 + "ABC".index(token[1])
    if not token.startswith("<extra_id_"):
      return None
    place = int(token.removeprefix("<extra_id_").removesuffix(">"))
    return self.first_sentinel - place if place < self.sentinels else None

  def id_of(self, role):
    return self.special_ids[role]
