"""What every registered corruption promises, from its `example` alone.

Sheet data-contracts, 0.5. A new kind is tested as soon as it is registered.
"""

import collections
import functools

import numpy as np
import pytest

from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _threefry, corruptions
from tests.data import fakes

KINDS = corruptions.kinds()
FIXED = ("causal", "none")  # nothing is drawn
CROPPED = ("mixture",)  # a row may hold more text than its part takes
ROWS, LENGTH, VOCAB = 24, 48, 90
TOKENIZER = fakes.SentinelTokenizer(VOCAB)
TOKENIZER.special_ids |= dict(bos=2, eos=3)
FIRST, LAST = 5, 60  # ids of the text
every_kind = pytest.mark.parametrize("kind", KINDS)


def part_of(kind):
  return corruptions.build({"kind": kind, **corruptions.entry(kind).example})


def corrupt(kind, rows, seed=0, index=None, epoch=0):
  """Numpy in, numpy out."""
  batch = len(rows["tokens"])
  index = np.arange(batch) if index is None else np.asarray(index)
  keys = _threefry.row_keys(
    tf.constant(seed, tf.int64),
    tf.constant(index, tf.int64),
    tf.fill([batch], tf.constant(epoch, tf.int64)),
  )
  out = bound(kind)({k: tf.constant(v) for k, v in rows.items()}, keys)
  return {k: v.numpy() for k, v in out.items()}


@functools.cache
def bound(kind):
  return part_of(kind).bind(TOKENIZER, LENGTH)


@functools.cache
def rows_for(kind):
  """Rows as an arrangement would make them for this kind."""
  part = part_of(kind)
  width, single = part.text_length(LENGTH), hasattr(part, "single_segment")
  rng = np.random.default_rng(0)
  tokens = np.zeros((ROWS, width), np.int32)
  segments = np.zeros((ROWS, width), np.int32)
  for r in range(ROWS):
    at, segment = 0, 0
    end = width - int(rng.integers(0, 5)) * (r % 2)
    while end - at >= 3:
      size = end - at if single else min(int(rng.integers(3, 20)), end - at)
      segment += 1
      here = slice(at, at + size)
      tokens[r, here] = rng.integers(FIRST, LAST, size)
      segments[r, here] = segment
      if not single:
        tokens[r, at], tokens[r, at + size - 1] = 2, 3
      at += size
  return {"tokens": tokens, "segments": segments}


@functools.cache
def corrupted(kind):
  return corrupt(kind, rows_for(kind), seed=7)


def text_of(ids) -> collections.Counter:
  return collections.Counter(i for i in ids.tolist() if FIRST <= i < LAST)


@every_kind
def test_features_are_as_declared(kind):
  out, part = corrupted(kind), part_of(kind)
  declared = part.features(LENGTH)
  shared = {"segments": ((LENGTH,), "int32"), "positions": ((LENGTH,), "int32")}
  assert out.keys() == (shared | declared).keys()
  for key, (shape, dtype) in (shared | declared).items():
    assert out[key].shape == (ROWS, *shape) and out[key].dtype == dtype, key
    assert out[key].min() >= 0 and out[key].max() < VOCAB, key


@every_kind
def test_the_text_can_be_put_together_again(kind):
  """And special tokens are neither changed nor predicted."""
  out, clean = corrupted(kind), rows_for(kind)["tokens"]
  if "predict_ids" in out and out["inputs"].shape == (ROWS, LENGTH):
    inputs = out["inputs"].copy()
    row, slot = np.nonzero(out["predict_weights"])
    places = out["predict_positions"][row, slot]
    assert (clean[row, places] >= FIRST).all()
    assert np.array_equal(out["predict_ids"][row, slot], clean[row, places])
    inputs[row, places] = out["predict_ids"][row, slot]
    assert np.array_equal(inputs, clean[:, :LENGTH])
  for r in range(ROWS if kind not in CROPPED else 0):
    found = text_of(out["inputs"][r])
    for key in ("predict_ids", "targets"):
      if key in out:
        found += text_of(out[key][r])
    assert not text_of(clean[r]) - found


@every_kind
def test_documents_stay_apart(kind):
  """Positions restart in each, and padding has none."""
  out = corrupted(kind)
  for prefix in ("", "decoder_"):
    segments = out.get(f"{prefix}segments")
    if segments is None:
      continue
    for row, positions in zip(segments, out[f"{prefix}positions"]):
      assert (np.diff(row[row > 0]) >= 0).all()
      for s in np.unique(row[row > 0]):
        assert positions[row == s].tolist() == list(range((row == s).sum()))
  if "decoder_inputs" in out:
    read, said = out["decoder_inputs"], out["targets"]
    inside = out["decoder_segments"][:, 1:] > 0
    inside &= out["decoder_positions"][:, 1:] > 0
    assert np.array_equal(read[:, 1:][inside], said[:, :-1][inside])
    assert not out["weights"][out["decoder_segments"] == 0].any()


@every_kind
def test_it_is_random_by_seed_row_and_epoch(kind):
  rows, out = rows_for(kind), corrupted(kind)
  order = np.random.default_rng(1).permutation(ROWS)[:9]
  moved = corrupt(kind, {k: v[order] for k, v in rows.items()}, 7, order)
  assert all(np.array_equal(out[k][order], moved[k]) for k in out)
  for change in (
    dict(seed=8),
    dict(seed=7, epoch=1),
    dict(seed=7, index=np.arange(ROWS) + 100),
  ):
    other = corrupt(kind, rows, **change)
    same = [
      all(np.array_equal(out[k][r], other[k][r]) for k in out)
      for r in range(ROWS)
    ]
    if kind in FIXED:
      assert all(same)
    else:
      assert sum(same) <= 2


@every_kind
def test_tiny_rows(kind):
  """Rows of no token, of one, of two, and of special tokens alone."""
  width = part_of(kind).text_length(LENGTH)
  tokens = np.zeros((5, width), np.int32)
  tokens[1, 0], tokens[2, :2], tokens[3, :3], tokens[4] = 9, 9, 9, 2
  segments = (tokens > 0).astype(np.int32)
  out = corrupt(kind, {"tokens": tokens, "segments": segments})
  for key, value in out.items():
    assert np.isfinite(value).all(), key
  for key in ("weights", "predict_weights"):
    assert key not in out or out[key][0].sum() == 0 or "decoder_inputs" in out
  if "predict_weights" in out:
    assert out["predict_weights"][4].sum() == 0


@pytest.mark.slow
@every_kind
def test_it_compiles(kind):
  """As batches of unknown size, which is how it is run."""
  part, rows = part_of(kind), rows_for(kind)
  word = tf.TensorSpec([None], tf.uint32)
  specs = {
    k: tf.TensorSpec([None, v.shape[1]], v.dtype) for k, v in rows.items()
  }
  apply = bound(kind)  # its constants are made outside, as in use
  made = tf.function(
    lambda rows, a, b: apply(rows, (a, b)),
    autograph=False,
    input_signature=[specs, word, word],
  ).get_concrete_function()
  out = made.structured_outputs
  for key, (shape, dtype) in part.features(LENGTH).items():
    assert (
      out[key].shape.as_list() == [None, *shape] and out[key].dtype == dtype
    )
