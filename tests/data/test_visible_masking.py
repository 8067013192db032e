"""What visible masking shows of a row: exact numbers, honest draws."""

import numpy as np
import pytest
import scipy.stats

from jaxlm.data.corruption import corruptions
from jaxlm.errors import UserError
from tests.data.test_corruption import LENGTH, corrupt, rows_of

SPEC = dict(kind="visible_masking", rate=0.4)


def full_rows(batch=200, length=LENGTH):
  """One document a row, [CLS] .. [SEP]."""
  rows = rows_of(batch, length, pad=False)
  rows["tokens"] = np.where(rows["tokens"] < 5, 7, rows["tokens"])
  rows["tokens"][:, 0], rows["tokens"][:, -1] = 2, 3
  rows["segments"][:] = 1
  return rows


def shown(out, row):
  places = out["visible_positions"][row]
  return places[places < LENGTH]


def test_full_rows_show_exactly_as_many_as_there_are_slots():
  """48 tokens, 19 corrupted: 15 [MASK], 2 of another token, 2 kept."""
  rows = full_rows()
  out = corrupt(SPEC, rows)
  assert out["visible_positions"].shape == (200, 33)
  masked = out["inputs"] == 4
  assert (masked.sum(1) == 15).all()
  for row in range(200):
    assert shown(out, row).tolist() == np.flatnonzero(~masked[row]).tolist()
  assert (out["predict_weights"].sum(1) == 19).all()
  there = np.take_along_axis(out["inputs"], out["predict_positions"], 1)
  other = (there != 4) & (there != out["predict_ids"])
  other &= out["predict_weights"] > 0
  # One of the 55 tokens that may be drawn is the old one.
  assert (other.sum(1) <= 2).all() and other.sum() > 350


@pytest.mark.parametrize(
  "more",
  [
    dict(),
    dict(rate=0.15),
    dict(rate=0.5, mask=1.0, random=0.0, keep=0.0),
    dict(unit=dict(kind="whole_word"), rate=0.5),
    dict(unit=dict(kind="span"), count="ceil"),
    dict(count="exact"),
    dict(rate=1.0),
  ],
)
def test_packed_rows_show_what_is_no_mask(more):
  """All of it, or as much as there are slots; special tokens always."""
  spec = SPEC | more
  rows = rows_of(64, LENGTH)
  out = corrupt(spec, rows)
  slots = corruptions.build(spec).seen(LENGTH)
  real, masked = rows["segments"] > 0, out["inputs"] == 4
  for row in range(64):
    places = shown(out, row)
    assert (np.diff(places) > 0).all()
    visible = np.flatnonzero(real[row] & ~masked[row])
    assert set(places) <= set(visible)
    assert len(places) == min(len(visible), slots)
    if slots >= 24:  # more than there are special tokens
      special = np.flatnonzero(real[row] & (rows["tokens"][row] < 5))
      assert set(special) <= set(places)


def test_every_place_is_masked_equally_often_and_kept_too():
  out = corrupt(SPEC, full_rows(600))
  inside = slice(1, LENGTH - 1)
  masked = (out["inputs"][:, inside] == 4).sum(0)
  assert scipy.stats.chisquare(masked).pvalue > 1e-4
  visible = np.zeros((600, LENGTH + 1), int)
  np.put_along_axis(visible, out["visible_positions"], 1, axis=1)
  predicted = np.zeros((600, LENGTH), int)
  np.put_along_axis(predicted, out["predict_positions"], 1, axis=1)
  both = (visible[:, :LENGTH] & predicted)[:, inside].sum(0)
  assert both.sum() == 600 * 4
  assert scipy.stats.chisquare(both).pvalue > 1e-4


def test_random_by_seed_row_and_epoch():
  rows = rows_of(16, LENGTH)
  out = corrupt(SPEC, rows, seed=7)
  order = np.array([9, 3, 14])
  moved = corrupt(
    SPEC, {k: v[order] for k, v in rows.items()}, seed=7, index=order
  )
  for key, value in out.items():
    np.testing.assert_array_equal(value[order], moved[key])
  for other in (dict(seed=8), dict(seed=7, epoch=1)):
    found = corrupt(SPEC, rows, **other)["visible_positions"]
    assert (found == out["visible_positions"]).all(1).sum() <= 1


def test_rows_that_hide_nothing_and_shares_that_do_not_sum():
  empty = {k: np.zeros((2, LENGTH), np.int32) for k in ("tokens", "segments")}
  out = corrupt(SPEC, empty)
  assert (out["visible_positions"] == LENGTH).all()
  assert not out["predict_weights"].any()
  with pytest.raises(UserError, match="leaves nothing out"):
    corruptions.build(SPEC | dict(mask=0.0, random=0.5, keep=0.5))
  with pytest.raises(UserError, match="sum to 1"):
    corruptions.build(SPEC | dict(mask=0.5))
  with pytest.raises(UserError, match="fill_last=True"):
    corruptions.build(SPEC | dict(predict_rate=0.8))
