"""A `seqio.Vocabulary` over a Tokenizer.

seqio's own wrappers cut decoded text at the first end of sequence (the first
of many documents in a packed row, the first sentence of a pair), give
zero-padded matrices for BERT, and hold live objects that cannot be pickled.
This one does none of that.
"""

import numpy as np

from jaxlm.data._seqio import seqio, tf
from jaxlm.data.tokenizer import Tokenizer


class SeqioVocabulary(seqio.Vocabulary):
  """Ids of a Tokenizer inside seqio and tf.data.

  Vocabularies are equal when their tokenizers are, and can be pickled. In
  TensorFlow the text is cut by the same code as outside of it, through a
  function declared stateless, so that iterators can be checkpointed. seqio's
  Tasks want padding to be id 0, as it is in every trained tokenizer.

  Attributes:
    tokenizer: the `Tokenizer`.
  """

  def __init__(self, tokenizer: Tokenizer):
    super().__init__(extra_ids=0)
    self.tokenizer = tokenizer

  @property
  def pad_id(self) -> int:
    """Id of padding."""
    return self.tokenizer.pad_id

  @property
  def bos_id(self) -> int | None:
    """Id of the beginning of a document, or None."""
    return self.tokenizer.special_ids.get("bos")

  @property
  def eos_id(self) -> int | None:
    """Id of the end of a document, or None."""
    return self.tokenizer.special_ids.get("eos")

  @property
  def unk_id(self) -> int | None:
    """Id of what cannot be spelled, or None."""
    return self.tokenizer.special_ids.get("unk")

  @property
  def _base_vocab_size(self) -> int:
    return self.tokenizer.vocab_size

  def decode(self, ids) -> str:
    """The text of all ids, also of those behind an end of sequence.

    Special tokens are left out; ids beyond the vocabulary count as unknown.
    """
    return self._decode(np.asarray(ids).tolist())

  def decode_tf(self, ids):
    """Texts of ids [..., length], likewise; strings [...]."""
    return self._decode_tf(ids)

  def encode_batch_tf(self, texts):
    """Ids of strings [batch], a RaggedTensor int32 [batch, (length)].

    Many times faster than one text at a time.
    """
    flat, lengths = tf.numpy_function(
      self._flat, [texts], (tf.int32, tf.int64), stateful=False
    )
    return tf.RaggedTensor.from_row_lengths(
      tf.ensure_shape(flat, [None]), tf.ensure_shape(lengths, [None])
    )

  def _flat(self, texts):
    rows = self.tokenizer.encode_batch([t.decode("utf-8") for t in texts])
    lengths = np.array([len(row) for row in rows], np.int64)
    return np.array([i for row in rows for i in row], np.int32), lengths

  def _encode(self, s: str) -> list[int]:
    return self.tokenizer.encode(s)

  def _encode_tf(self, s):
    return self.encode_batch_tf(tf.reshape(s, [1])).flat_values

  def _decode(self, ids) -> str:
    size, unknown = self.tokenizer.vocab_size, self.unk_id
    known = [i if i < size else unknown for i in ids]
    return self.tokenizer.decode([i for i in known if i is not None])

  def _decode_tf(self, ids):
    def texts(rows):
      decoded = [self._decode(row.tolist()).encode() for row in rows]
      return np.array(decoded, dtype=object)

    ids = tf.convert_to_tensor(ids)
    rows = tf.reshape(ids, [-1, tf.shape(ids)[-1]])
    made = tf.numpy_function(texts, [rows], tf.string, stateful=False)
    made = tf.reshape(made, tf.shape(ids)[:-1])
    return tf.ensure_shape(made, ids.shape[:-1])

  def __eq__(self, other):
    return (
      isinstance(other, SeqioVocabulary) and self.tokenizer == other.tokenizer
    )

  def __hash__(self):
    return hash(self.tokenizer)

  def __repr__(self):
    return f"SeqioVocabulary({self.tokenizer!r})"


# Pickled by the public name.
SeqioVocabulary.__module__ = "jaxlm.data.vocabularies"
