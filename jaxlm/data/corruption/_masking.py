"""Masking in TensorFlow ops: what `masking.Masking` binds to a tokenizer."""

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _counts, _rows, _select, _threefry

# Streams of random numbers of a row; each is used once.
_RANKS, _MIX, _REPLACEMENTS, _LENGTHS, _ROUNDING = range(5)


def bind(masking, tokenizer, length: int):
  """`apply(rows, keys) -> features`; see `jaxlm.data.corruption`."""
  unk = tokenizer.special_ids.get("unk")
  allowed = ~np.asarray(tokenizer.is_special, bool)
  if unk is not None:
    allowed[unk] = True  # a word like others, as in BERT
  allowed = tf.constant(allowed)
  word_starts = tf.constant(np.asarray(tokenizer.word_starts, bool))
  replace = _replacer(masking, tokenizer)
  rates = (masking.rate, masking.predicted)
  most = [_counts.most(r, length, masking.count) for r in rates]

  def apply(rows, keys):
    tokens = rows["tokens"][:, :length]
    tokens = tf.ensure_shape(tokens, [None, length])
    segments = tf.ensure_shape(rows["segments"][:, :length], [None, length])
    selectable = tf.gather(allowed, tokens) & (segments > 0)
    ranks = _threefry.ranks(keys, _RANKS, length)
    wanted = [_wanted(masking, r, selectable, segments, keys) for r in rates]
    score, found = _scored(
      masking, tokens, segments, selectable, ranks, wanted[0], keys, word_starts
    )
    # Corrupted tokens in random order, so that predicting fewer is a prefix.
    _, order = tf.math.top_k(score, k=most[0])
    corrupted, valid = _ascending(order, found, length)
    inputs = replace(tokens, segments, corrupted, valid, keys)
    places, counts = _ascending(
      order[:, : most[1]], tf.minimum(wanted[1], found), length
    )
    places = tf.where(counts, places, 0)
    ids = tf.gather(tokens, places, batch_dims=1)
    return {
      "inputs": inputs,
      "predict_positions": places,
      "predict_ids": tf.where(counts, ids, 0),
      "predict_weights": tf.cast(counts, tf.float32),
    } | _rows.common(rows, length)

  return apply


def _wanted(masking, rate, selectable, segments, keys):
  """int32 [batch]: how many tokens to take of each row."""
  length = selectable.shape[1]
  available = tf.reduce_sum(tf.cast(selectable, tf.int32), axis=1)
  counted = available
  if masking.count == "total":
    counted = tf.reduce_sum(tf.cast(segments > 0, tf.int32), axis=1)
  wanted = tf.gather(_counts.table(rate, length, masking.count), counted)
  if masking.count == "unbiased":
    chance = tf.gather(_counts.fractions(rate, length), counted)
    draw = _threefry.uniform(keys, _ROUNDING, 1)[:, 0]
    wanted += tf.cast(draw < chance, tf.int32)
  return tf.minimum(tf.maximum(wanted, 1), available)


def _scored(
  masking, tokens, segments, selectable, ranks, wanted, keys, word_starts
):
  """Scores and a count: the tokens with the highest scores are corrupted."""
  if masking.unit["kind"] == "uniform":
    return tf.where(selectable, ranks, -1), wanted
  selected = _selected(
    masking, tokens, segments, selectable, ranks, wanted, keys, word_starts
  )
  found = tf.reduce_sum(tf.cast(selected, tf.int32), axis=1)
  return tf.where(selected, ranks, -1), found


def _selected(
  masking, tokens, segments, selectable, ranks, wanted, keys, word_starts
):
  """bool [batch, length], by words or spans."""
  starts = _rows.units(selectable, tf.gather(word_starts, tokens), segments)
  if masking.unit["kind"] == "whole_word":
    return _select.whole_word(selectable, starts, ranks, wanted)
  turns = _counts.most(masking.rate, tokens.shape[1], masking.count)
  draws = _threefry.uniform(keys, _LENGTHS, turns)
  below = tf.constant(masking.span_lengths.cumsum()[:-1].astype(np.float32))
  lengths = 1 + tf.reduce_sum(
    tf.cast(draws[:, :, None] >= below, tf.int32), axis=2
  )
  return _select.spans(selectable, starts, segments, ranks, lengths, wanted)


def _ascending(places, found, length):
  """The first `found` places in ascending order, and which are valid.

  Places that are not valid are `length`.
  """
  valid = tf.range(places.shape[1])[None, :] < found[:, None]
  return tf.sort(tf.where(valid, places, length), axis=1), valid


def _replacer(masking, tokenizer):
  """`(tokens, segments, places, valid, keys) -> inputs`."""
  mask_id = tokenizer.mask_id if masking.mask > 0 else 0
  pool = tf.constant(np.asarray(tokenizer.random_pool, np.int32))
  per_span = masking.unit["kind"] == "span"

  def replace(tokens, segments, places, valid, keys):
    count, length = places.shape[1], tokens.shape[1]
    draw = _threefry.uniform(keys, _MIX, count)
    if per_span:  # one draw for a run of neighbours, as SpanBERT has it
      inside = tf.minimum(places, length - 1)
      segment = tf.gather(segments, inside, batch_dims=1)
      follows = (places[:, 1:] == places[:, :-1] + 1) & ~_rows.changes(segment)[
        :, 1:
      ]
      run = tf.cumsum(tf.pad(tf.cast(~follows, tf.int32), [[0, 0], [1, 0]]), 1)
      draw = tf.gather(draw, run, batch_dims=1)
    random = tf.gather(
      pool, _threefry.below(keys, _REPLACEMENTS, count, len(pool))
    )
    kept = tf.gather(tokens, tf.minimum(places, length - 1), batch_dims=1)
    new = tf.where(draw < masking.mask + masking.random, random, kept)
    new = tf.where(draw < masking.mask, mask_id, new)
    return _put(tokens, places, tf.where(valid, new, 0))

  return replace


def _put(tokens, places, new):
  """tokens with new[b, i] at places[b, i]; the place `length` is dropped."""
  batch, length = tf.shape(tokens)[0], tokens.shape[1]
  row = tf.range(batch)[:, None] * (length + 1)
  flat = tf.reshape(tf.pad(tokens, [[0, 0], [0, 1]]), [-1])
  flat = tf.tensor_scatter_nd_update(
    flat, tf.reshape(row + places, [-1, 1]), tf.reshape(new, [-1])
  )
  return tf.reshape(flat, [batch, length + 1])[:, :length]
