"""Masking in TensorFlow ops: what `masking.Masking` binds to a tokenizer."""

import numpy as np

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import (
  _boundaries,
  _copies,
  _counts,
  _rows,
  _selectors,
  _threefry,
)


def bind(masking, tokenizer, length: int):
  """`apply(rows, keys) -> features`; see `jaxlm.data.corruption`."""
  allowed = tf.constant(_rows.ordinary_tokens(tokenizer))
  most, most_told = masking.most(length)
  unit = _selectors.bind(masking, tokenizer, most)
  replace = _replacer(masking, tokenizer, unit)
  rates = (masking.rate, masking.predicted)
  part = masking.predicted > masking.rate

  def apply(rows, keys):
    tokens = rows["tokens"][:, :length]
    tokens = tf.ensure_shape(tokens, [None, length])
    segments = tf.ensure_shape(rows["segments"][:, :length], [None, length])
    selectable = tf.gather(allowed, tokens) & (segments > 0)
    seen = _selectors.Rows(
      segments,
      selectable,
      unit.starts(tokens, segments, selectable, keys),
      _threefry.ranks(keys, _selectors.RANKS, length),
    )
    hide, tell = (_wanted(masking, r, seen, keys) for r in rates)
    if part:
      copy = rows.get("copy", tf.zeros_like(hide))
      selected, tell = _copies.part(
        masking, seen, unit, copy, hide, tell, keys, masking.copies(length)
      )
      score, found = _marked(selected, seen)
      keys = _copies.keys_of(keys, copy)
    else:
      score, found = _scored(seen, unit, hide, keys)
    # Corrupted tokens in random order, so that predicting fewer is a prefix.
    _, order = tf.math.top_k(score, k=most)
    corrupted, valid = _ascending(order, found, length)
    inputs = replace(tokens, seen, corrupted, valid, keys)
    places, counts = _ascending(
      order[:, :most_told], tf.minimum(tell, found), length
    )
    places = tf.where(counts, places, 0)
    ids = tf.gather(tokens, places, batch_dims=1)
    out = {
      "inputs": inputs,
      "predict_positions": places,
      "predict_ids": tf.where(counts, ids, 0),
      "predict_weights": tf.cast(counts, tf.float32),
    }
    if masking.boundaries:
      ones = tf.ones_like(corrupted)
      hidden = _put(tf.zeros_like(tokens), corrupted, ones) > 0
      out |= _boundaries.features(
        hidden, seen, places, counts, masking.boundaries
      )
    return out | _rows.common(rows, length)

  return apply


def _wanted(masking, rate, rows, keys):
  """int32 [batch]: how many tokens to take of each row."""
  length = rows.selectable.shape[1]
  available = tf.reduce_sum(tf.cast(rows.selectable, tf.int32), axis=1)
  counted = available
  if masking.count == "total":
    counted = tf.reduce_sum(tf.cast(rows.segments > 0, tf.int32), axis=1)
  wanted = tf.gather(_counts.table(rate, length, masking.count), counted)
  if masking.count == "unbiased":
    chance = tf.gather(_counts.fractions(rate, length), counted)
    draw = _threefry.uniform(keys, _selectors.ROUNDING, 1)[:, 0]
    wanted += tf.cast(draw < chance, tf.int32)
  return tf.minimum(tf.maximum(wanted, 1), available)


def _scored(rows, unit, count, keys):
  """Scores and a count: the tokens with the highest scores are corrupted."""
  if unit.select is None:
    return tf.where(rows.selectable, rows.ranks, -1), count
  return _marked(unit.select(rows, rows.selectable, count, keys), rows)


def _marked(selected, rows):
  """The same of tokens that are selected, bool [batch, length]."""
  found = tf.reduce_sum(tf.cast(selected, tf.int32), axis=1)
  return tf.where(selected, rows.ranks, -1), found


def _ascending(places, found, length):
  """The first `found` places in ascending order, and which are valid.

  Places that are not valid are `length`.
  """
  valid = tf.range(places.shape[1])[None, :] < found[:, None]
  return tf.sort(tf.where(valid, places, length), axis=1), valid


def _replacer(masking, tokenizer, unit):
  """`(tokens, rows, places, valid, keys) -> inputs`."""
  mask_id = tokenizer.mask_id if masking.mask > 0 else 0
  pool = tf.constant(np.asarray(tokenizer.random_pool, np.int32))

  def replace(tokens, rows, places, valid, keys):
    count, length = places.shape[1], tokens.shape[1]
    draw = _threefry.uniform(keys, _selectors.MIX, count)
    if unit.together:
      draw = tf.gather(draw, _groups(unit.together(rows), places), batch_dims=1)
    random = tf.gather(
      pool, _threefry.below(keys, _selectors.REPLACEMENTS, count, len(pool))
    )
    kept = tf.gather(tokens, tf.minimum(places, length - 1), batch_dims=1)
    new = tf.where(draw < masking.mask + masking.random, random, kept)
    new = tf.where(draw < masking.mask, mask_id, new)
    return _put(tokens, places, tf.where(valid, new, 0))

  return replace


def _groups(numbers, places):
  """int32 [batch, count]: neighbours among the places of one number."""
  inside = tf.minimum(places, numbers.shape[1] - 1)
  changed = _rows.changes(tf.gather(numbers, inside, batch_dims=1))
  follows = (places[:, 1:] == places[:, :-1] + 1) & ~changed[:, 1:]
  return tf.cumsum(tf.pad(tf.cast(~follows, tf.int32), [[0, 0], [1, 0]]), 1)


def _put(tokens, places, new):
  """tokens with new[b, i] at places[b, i]; the place `length` is dropped."""
  batch, length = tf.shape(tokens)[0], tokens.shape[1]
  row = tf.range(batch)[:, None] * (length + 1)
  flat = tf.reshape(tf.pad(tokens, [[0, 0], [0, 1]]), [-1])
  flat = tf.tensor_scatter_nd_update(
    flat, tf.reshape(row + places, [-1, 1]), tf.reshape(new, [-1])
  )
  return tf.reshape(flat, [batch, length + 1])[:, :length]
