"""Longest-pack-first histogram packing: documents into rows, almost no waste.

Best-fit decreasing on the histogram of lengths, after Krell et al., Efficient
Sequence Packing without Cross-contamination, arXiv:2107.02027. It works on
groups of equal rows, so its cost depends on the number of different lengths
and not on the number of documents: ten million documents take seconds. It is
exact best-fit decreasing (the paper's code approximates it with a
`distribute` switch): the longest first, into the row with the least room that
still fits.
"""

import bisect
from typing import NamedTuple

import numpy as np


class Packing(NamedTuple):
  """Which items lie in which row.

  Attributes:
    items: int64 [items], indices of the items, row after row.
    bounds: int64 [rows + 1]; row r holds items[bounds[r]:bounds[r + 1]].
  """

  items: np.ndarray
  bounds: np.ndarray


class _Group(NamedTuple):
  """`count` equal rows; `parts` lists (length, copies), `size` items."""

  count: int
  parts: tuple[tuple[int, int], ...]
  size: int


def pack(
  lengths: np.ndarray, capacity: int, max_items: int | None = None
) -> Packing:
  """Packs items into rows of at most `capacity` tokens.

  Deterministic: among items of one length the earlier goes to the earlier row.

  Args:
    lengths: int [items], tokens of each item, 1 to `capacity`.
    capacity: tokens a row holds.
    max_items: items a row holds at most; None for no limit.

  Raises:
    ValueError: a length outside 1..capacity.
  """
  lengths = np.asarray(lengths)
  if lengths.size == 0:
    return Packing(np.zeros(0, np.int64), np.zeros(1, np.int64))
  if lengths.min() < 1 or lengths.max() > capacity:
    raise ValueError(
      f"lengths {lengths.min()}..{lengths.max()} do not fit 1..{capacity}"
    )
  histogram = np.bincount(lengths, minlength=capacity + 1)
  groups = _groups(histogram, capacity, max_items or capacity)
  return _assign(groups, lengths, histogram)


def efficiency(lengths: np.ndarray, packing: Packing, capacity: int) -> float:
  """Share of the rows' tokens that are not padding."""
  rows = len(packing.bounds) - 1
  return float(np.sum(lengths, dtype=np.int64)) / max(rows * capacity, 1)


def _groups(histogram, capacity, max_items) -> list[_Group]:
  """Best-fit decreasing over the histogram, in groups of equal rows."""
  rooms = []  # sorted rooms that open groups have
  by_room = {}  # room -> groups with that room, in order of their making
  closed = []

  def put(group, room):
    if room == 0 or group.size == max_items:
      closed.append(group)
      return
    if room not in by_room:
      bisect.insort(rooms, room)
      by_room[room] = []
    by_room[room].append(group)

  def take(length):
    at = bisect.bisect_left(rooms, length)
    if at == len(rooms):
      return None, capacity
    room = rooms[at]
    group = by_room[room].pop()
    if not by_room[room]:
      del by_room[room], rooms[at]
    return group, room

  for length in np.flatnonzero(histogram)[::-1].tolist():
    left = int(histogram[length])
    while left:
      group, room = take(length)
      if group is None:
        group = _Group(left, (), 0)  # as many new rows as could be needed
      copies = min(room // length, max_items - group.size)
      full = min(group.count, left // copies)
      rest = left - full * copies if full < group.count else 0
      for count, put_in in ((full, copies), (1 if rest else 0, rest)):
        if count:
          parts = (*group.parts, (length, put_in))
          put(_Group(count, parts, group.size + put_in), room - put_in * length)
      used = full + (1 if rest else 0)
      if group.size and used < group.count:  # rows that nothing went into
        put(group._replace(count=group.count - used), room)
      left -= full * copies + rest
  for room in rooms:
    closed.extend(by_room[room])
  return closed


def _assign(groups, lengths, histogram) -> Packing:
  """Hands the items of each length to the places made for that length."""
  by_length = np.argsort(lengths, kind="stable").astype(np.int64)
  cursor = np.concatenate([[0], np.cumsum(histogram)[:-1]])
  items, sizes = [], []
  for group in groups:
    columns = []
    for length, copies in group.parts:
      start = cursor[length]
      stop = start + group.count * copies
      cursor[length] = stop
      columns.append(by_length[start:stop].reshape(group.count, copies))
    items.append(np.concatenate(columns, axis=1).reshape(-1))
    sizes.append(np.full(group.count, group.size, np.int64))
  bounds = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
  return Packing(np.concatenate(items), bounds.astype(np.int64))
