import numpy as np
import pytest

from jaxlm.data import order


def _walk(seed, steps, batch_size, rows):
  return np.concatenate(
    [order.rows_of_step(seed, s, batch_size, rows)[0] for s in range(steps)]
  )


def test_every_epoch_visits_every_row_once():
  walked = _walk(3, 7, 5, 7)  # 35 entries: 5 epochs of 7 rows
  for epoch in walked.reshape(5, 7):
    assert sorted(epoch) == list(range(7))
  assert len({tuple(e) for e in walked.reshape(5, 7)}) > 1


def test_epochs_are_counted_along_the_endless_concatenation():
  epochs = np.concatenate([order.rows_of_step(0, s, 4, 6)[1] for s in range(6)])
  np.testing.assert_array_equal(epochs, np.repeat(np.arange(4), 6))


def test_any_access_order_gives_the_same_rows():
  expected = {s: order.rows_of_step(9, s, 8, 11)[0] for s in range(20)}
  order.permutation.cache_clear()
  for step in (19, 0, 7, 3, 18, 3):
    np.testing.assert_array_equal(
      order.rows_of_step(9, step, 8, 11)[0], expected[step]
    )


def test_a_batch_larger_than_the_data_spans_epochs():
  indices, epochs = order.rows_of_step(1, 0, 10, 3)
  np.testing.assert_array_equal(epochs, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3])
  for epoch in range(3):
    assert sorted(indices[epochs == epoch]) == [0, 1, 2]


def test_seeds_differ_and_bits_are_frozen():
  assert not np.array_equal(
    order.permutation(0, 0, 100), order.permutation(1, 0, 100)
  )
  np.testing.assert_array_equal(
    order.permutation(17, 2, 8), [6, 0, 4, 3, 1, 2, 5, 7]
  )


def test_a_far_step_is_reached_directly():
  indices, epochs = order.rows_of_step(5, 10**12, 4, 1000)
  assert epochs[0] == 4 * 10**9
  assert ((indices >= 0) & (indices < 1000)).all()


def test_shards_cut_the_batch_in_order():
  rows = np.arange(8)
  parts = [rows[order.shard_slice(8, (i, 4))] for i in range(4)]
  np.testing.assert_array_equal(np.concatenate(parts), rows)
  with pytest.raises(ValueError, match="must divide"):
    order.shard_slice(6, (0, 4))
  with pytest.raises(ValueError, match="shard 2 of 2"):
    order.shard_slice(6, (2, 2))


def test_bad_sizes_are_refused():
  with pytest.raises(ValueError, match="step -1"):
    order.rows_of_step(0, -1, 4, 4)
  with pytest.raises(ValueError, match="rows 0"):
    order.rows_of_step(0, 0, 4, 0)
