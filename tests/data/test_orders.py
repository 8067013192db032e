"""Orders of rows: functions of (seed, step), each row once an epoch."""

import numpy as np
import pytest

from jaxlm.data import order
from jaxlm.data.arrangements import Frame, Pieces, arrangements, fill
from jaxlm.data.orders import orders
from jaxlm.errors import UserError
from tests.data import fakes

ROWS, BATCH = 12, 5


def parts():
  for kind in orders.kinds():
    yield orders.build({"kind": kind, **orders.entry(kind).example})


@pytest.mark.parametrize("part", list(parts()), ids=lambda p: type(p).__name__)
def test_every_epoch_holds_every_row_once(part):
  steps = ROWS  # batches of 5: five epochs
  walked = [part.rows_of_step(3, s, BATCH, ROWS) for s in range(steps)]
  indices = np.concatenate([i for i, _ in walked])
  epochs = np.concatenate([e for _, e in walked])
  for epoch in range(BATCH):
    assert sorted(indices[epochs == epoch]) == list(range(ROWS))
  again = part.rows_of_step(3, 7, BATCH, ROWS)  # as after a restart
  np.testing.assert_array_equal(again, walked[7])
  assert all(x.dtype == np.int64 and x.shape == (BATCH,) for x in again)


def test_shuffled_is_the_order_of_packed_text():
  part = orders.build({"kind": "shuffled"})
  for step in (0, 4):
    np.testing.assert_array_equal(
      part.rows_of_step(1, step, BATCH, ROWS),
      order.rows_of_step(1, step, BATCH, ROWS),
    )


def test_kept_rows_are_the_text_end_to_end():
  part = orders.build({"kind": "kept"})
  found = [part.rows_of_step(0, s, BATCH, ROWS)[0] for s in range(5)]
  assert np.concatenate(found).tolist() == [*range(12), *range(12), 0]


def test_a_lane_holds_the_next_row_at_the_next_step():
  part = orders.build({"kind": "lanes", "steps": 4})
  # Runs 0-3, 4-7, 8-11; two places.
  found = [part.rows_of_step(0, s, 2, ROWS)[0].tolist() for s in range(8)]
  assert found[:4] == [[0, 4], [1, 5], [2, 6], [3, 7]]
  assert found[4:] == [[8, 0], [9, 1], [10, 2], [11, 3]]
  epochs = part.rows_of_step(0, 5, 2, ROWS)[1]
  assert epochs.tolist() == [0, 1]


def test_lanes_take_whole_runs():
  part = orders.build({"kind": "lanes", "steps": 5})
  with pytest.raises(UserError, match="12 rows, 2 more than whole runs"):
    part.rows_of_step(0, 0, 2, ROWS)
  with pytest.raises(UserError, match=r"steps is 0"):
    orders.build({"kind": "lanes", "steps": 0})


def separate(lengths, width, tokenizer):
  pieces = Pieces(
    np.asarray(lengths, np.int32), np.arange(len(lengths) + 1, dtype=np.int64)
  )
  ids = np.arange(5, 5 + sum(lengths)).astype(np.uint16)
  plan = arrangements.build({"kind": "separate"}).plan(
    pieces, Frame.of(tokenizer), width
  )
  return fill(plan, ids, width, 0, 0, plan.rows)


def test_separate_rows_golden():
  rows = separate([3, 6, 1], 6, fakes.NumberTokenizer())
  assert rows["tokens"].tolist() == [
    [2, 5, 6, 7, 3, 0],
    [2, 8, 9, 10, 11, 3],  # cut
    [2, 14, 3, 0, 0, 0],
  ]
  np.testing.assert_array_equal(rows["segments"], rows["tokens"] > 0)


def test_separate_rows_without_brackets_begin_with_the_end_of_text():
  class Gpt2:
    special_ids = {"eos": 4}

    def bracket(self, a, b):
      return [*a, 4, *b, 4], [0] * (len(a) + len(b) + 2)

  rows = separate([2, 1], 4, Gpt2())
  assert rows["tokens"].tolist() == [[4, 5, 6, 4], [4, 7, 4, 0]]
  with pytest.raises(UserError, match="too short"):
    separate([1], 2, Gpt2())
