"""Random numbers by counter: Threefry-2x32, here of numpy arrays.

Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011; 20 rounds,
the generator of JAX. A number depends on the key of its row and its place
alone, so all rows of a batch are drawn at once, and any one of them alone.
"""

import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_LOW = 0xFFFFFFFF


def rotate(x, by: int):
  """uint32 with its bits turned to the left."""
  return (x << np.uint32(by)) | (x >> np.uint32(32 - by))


def threefry(k0, k1, x0, x1, rotate=rotate):
  """Threefry-2x32 of uint32 arrays that broadcast: two uint32 arrays.

  Args:
    k0, k1: the key.
    x0, x1: the counter.
    rotate: turns bits of such arrays, where they are not numpy's.
  """
  keys = (k0, k1, k0 ^ k1 ^ np.uint32(_PARITY))
  x0, x1 = x0 + k0, x1 + k1
  for block in range(5):
    for rotation in _ROTATIONS[block % 2]:
      x0 = x0 + x1
      x1 = x0 ^ rotate(x1, rotation)
    x0 = x0 + keys[(block + 1) % 3]
    x1 = x1 + keys[(block + 2) % 3] + np.uint32(block + 1)
  return x0, x1


def row_keys(seed: int, rows: np.ndarray, epochs: np.ndarray):
  """The key of each row: two uint32 [batch].

  Args:
    seed: of which 64 bits count.
    rows, epochs: int64 [batch], below 2**32.
  """
  high, low = (np.uint32(seed >> shift & _LOW) for shift in (32, 0))
  return threefry(
    high[None], low[None], rows.astype(np.uint32), epochs.astype(np.uint32)
  )


def bits(keys, streams, count: int) -> np.ndarray:
  """uint32 [batch, count] of uniform bits; streams are independent.

  The first numbers are the same for any count.

  Args:
    keys: two uint32 [batch].
    streams: int, or int [batch], of each row.
    count: numbers of a row.
  """
  counters = np.arange((count + 1) // 2, dtype=np.uint32)[None]
  streams = np.broadcast_to(np.asarray(streams, np.uint32), keys[0].shape)
  k0, k1, streams = (x[:, None] for x in (*keys, streams))
  pairs = threefry(k0, k1, counters, streams)
  return np.stack(pairs, axis=-1).reshape(len(k0), -1)[:, :count]


def below(words: np.ndarray, bound) -> np.ndarray:
  """int64 on 0..bound - 1 of uint32 bits, off by under bound / 2**32."""
  return (words.astype(np.int64) * bound) >> 32
