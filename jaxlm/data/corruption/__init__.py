"""Corruptions: what a model sees of a row, and what it must say about it.

Masking is select -> replace -> predict. All of it runs as TensorFlow ops on
whole batches, so it is seqio preprocessing, and is random by counter: the
numbers of a row depend on (seed, row, epoch) and on nothing else, whatever
batch, shard or host the row sits in.

A corruption is a frozen dataclass with

  single_segment: present and true where a row must hold one text alone.
  text_length(length) -> tokens that a row holds, for a batch of that length
    (one more where targets are shifted).
  copies(length), keep_copies_together: where present, how many rows of a batch
    a row of the cache becomes, and whether they stay in one batch.
  taken(length) -> take(text, keys) -> the text that is corrupted: where
    present, what a row takes of its `tokens` and `segments`, padded to their
    width, for people and measures.
  files() -> {path: sha256}: where present, what is read beside the rows.
  features(length) -> {key: (shape, dtype name)} of one row, besides those
    that all share (`segments`, `positions`, ...).
  bind(tokenizer, length) -> apply(rows, keys) -> {key: tensor [batch, ...]}

where `rows` holds `tokens` and `segments`, int32 [batch, text_length(length)],
and `copy`, int32 [batch], where there are copies, and `keys` the two uint32
[batch] words of `_threefry.row_keys`.
Only `bind` imports TensorFlow (5 s), inside modules that start with "_".
"""

from jaxlm.registry import Registry

corruptions = Registry("corruption", __name__)
