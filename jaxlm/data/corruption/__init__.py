"""Corruptions: what a model sees of a row, and what it must say about it.

Masking is select -> replace -> predict. All of it runs as TensorFlow ops on
whole batches, so it is seqio preprocessing, and is random by counter: the
numbers of a row depend on (seed, row, epoch) and on nothing else, whatever
batch, shard or host the row sits in.

A corruption is a frozen dataclass with

  extra_tokens: tokens that a row needs beyond the length of a batch (1 where
    targets are shifted).
  features(length) -> {key: (shape, dtype name)} of one row, besides those
    that all share (`segments`, `positions`, ...).
  bind(tokenizer, length) -> apply(rows, keys) -> {key: tensor [batch, ...]}

where `rows` holds `tokens` and `segments`, int32 [batch, length +
extra_tokens], and `keys` the two uint32 [batch] words of `_threefry.row_keys`.
Only `bind` imports TensorFlow (5 s), inside modules that start with "_".
"""

from jaxlm.registry import Registry

corruptions = Registry("corruption", __name__)
