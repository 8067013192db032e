"""Packing: exact best-fit decreasing, every item once, nothing over."""

import itertools

import numpy as np
import pytest

from jaxlm.data import packing


def best_fit_decreasing(lengths, capacity, max_items=None):
  """The definition, one item at a time: the number of rows."""
  rooms, sizes = [], []
  for length in sorted(lengths, reverse=True):
    fits = [
      (room, i)
      for i, room in enumerate(rooms)
      if room >= length and sizes[i] < (max_items or capacity)
    ]
    if fits:
      _, i = min(fits)
      rooms[i] -= length
      sizes[i] += 1
    else:
      rooms.append(capacity - length)
      sizes.append(1)
  return len(rooms)


def fewest_rows(lengths, capacity):
  """Brute force: the smallest number of rows that holds all."""
  best = len(lengths)
  for places in itertools.product(range(len(lengths)), repeat=len(lengths)):
    used = np.bincount(places, weights=lengths)
    if used.max() <= capacity:
      best = min(best, int((used > 0).sum()))
  return best


def sums(lengths, packed):
  return [
    int(lengths[packed.items[a:b]].sum())
    for a, b in itertools.pairwise(packed.bounds)
  ]


@pytest.mark.parametrize("max_items", [None, 1, 3])
@pytest.mark.parametrize("capacity,count", [(8, 30), (64, 300), (512, 200)])
def test_is_best_fit_decreasing(capacity, count, max_items):
  rng = np.random.default_rng(capacity + count)
  lengths = rng.integers(1, capacity + 1, count)
  packed = packing.pack(lengths, capacity, max_items)
  assert sorted(packed.items) == list(range(count))
  assert max(sums(lengths, packed)) <= capacity
  rows = len(packed.bounds) - 1
  if max_items:
    assert np.diff(packed.bounds).max() <= max_items
  else:
    assert rows == best_fit_decreasing(lengths, capacity)
  assert rows >= -(-lengths.sum() // capacity)


@pytest.mark.parametrize("length", [1, 3, 7, 16])
@pytest.mark.parametrize("count", [1, 5, 100])
def test_one_length_needs_the_closed_form(length, count):
  packed = packing.pack(np.full(count, length), 16)
  assert len(packed.bounds) - 1 == -(-count // (16 // length))


def test_close_to_brute_force():
  rng = np.random.default_rng(0)
  for _ in range(20):
    lengths = rng.integers(1, 11, 5)
    rows = len(packing.pack(lengths, 10).bounds) - 1
    best = fewest_rows(lengths, 10)
    assert best <= rows <= 11 / 9 * best + 6 / 9  # Johnson 1973


def test_golden():
  lengths = np.array([5, 4, 3, 3, 2, 2, 1])
  packed = packing.pack(lengths, 10)
  rows = [
    packed.items[a:b].tolist() for a, b in itertools.pairwise(packed.bounds)
  ]
  # 5+4+1 and 3+3+2+2: both full.
  assert sorted(map(sorted, rows)) == [[0, 1, 6], [2, 3, 4, 5]]


def test_earlier_items_go_to_earlier_rows():
  packed = packing.pack(np.full(6, 5), 10)
  assert packed.items.tolist() == [0, 1, 2, 3, 4, 5]
  again = packing.pack(np.full(6, 5), 10)
  assert np.array_equal(packed.items, again.items)


def test_short_documents_waste_under_one_percent():
  rng = np.random.default_rng(1)
  lengths = np.clip(rng.lognormal(3.6, 0.8, 20_000), 3, 512).astype(np.int64)
  packed = packing.pack(lengths, 512)
  assert packing.efficiency(lengths, packed, 512) > 0.999


def test_a_million_documents_in_a_moment():
  rng = np.random.default_rng(2)
  lengths = np.clip(rng.lognormal(4, 1, 1_000_000), 3, 128).astype(np.int64)
  packed = packing.pack(lengths, 128)
  assert packed.bounds[-1] == 1_000_000


def test_nothing_and_too_long():
  packed = packing.pack(np.zeros(0, np.int64), 8)
  assert packed.bounds.tolist() == [0]
  with pytest.raises(ValueError, match="1..8"):
    packing.pack(np.array([9]), 8)
