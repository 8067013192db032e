"""Distances between positions: rows of a tile shifted one by one.

A value per distance is a strip [1, rows + columns]; the tile's row r is that
strip shifted by r. TPUs shift each row by its own amount (a strided roll) to
the right only; the way back is a gather inside of 128 lanes and a select.
A strip's element w stands for the distance column - row = w - rows.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels.flash_attention.mosaic_tpu import tiles


def skew(strip, rows: int):
  """[1, rows + columns] to [rows, columns]: out[r, c] = strip[c - r + rows]."""
  wide = jnp.broadcast_to(strip, (rows, strip.shape[1]))
  return pltpu.roll(wide, 0, 1, stride=1, stride_axis=0)[:, rows:]


def unskew(tile):
  """The way back, by chunks of rows that are as high as lanes are wide.

  Args:
    tile: [rows, columns] float32.

  Yields:
    (start, part): the chunk's rows [lanes, columns + lanes] in the strip's
    columns start..; part[r, w - start] = tile[r, c] for w = c - r + rows.
  """
  rows, columns = tile.shape
  lanes = min(tiles.LANES, rows, columns)
  shape = (lanes, lanes)
  ahead = jax.lax.broadcasted_iota(jnp.int32, shape, 0)
  ahead += jax.lax.broadcasted_iota(jnp.int32, shape, 1)
  source = jnp.where(ahead < lanes, ahead, ahead - lanes)
  zero = jnp.zeros(shape, tile.dtype)
  for top in range(0, rows, lanes):
    turned = [
      jnp.take_along_axis(
        tile[top : top + lanes, c : c + lanes], source, axis=1
      )
      for c in range(0, columns, lanes)
    ]
    parts = [
      jnp.where(ahead < lanes, left, right)
      for left, right in zip([zero, *turned], [*turned, zero])
    ]
    yield rows - top - lanes, jnp.concatenate(parts, 1)


def diagonal_sums(tile):
  """[rows, columns] float32 to [1, rows + columns]: `skew` transposed."""
  rows, columns = tile.shape
  lanes = min(tiles.LANES, rows, columns)
  sums = [0.0] * ((rows + columns) // lanes)
  for start, part in unskew(tile):
    total = jnp.sum(part, 0, keepdims=True)
    for n in range(total.shape[1] // lanes):
      sums[start // lanes + n] += total[:, n * lanes : (n + 1) * lanes]
  return jnp.concatenate(sums, 1)


def lookup(table, index):
  """out[r, c] = table[r, index[r, c]], with no gather across lane groups.

  Args:
    table: [rows, buckets] float32, buckets a multiple of 128.
    index: [rows, columns] int32.
  """
  rows, columns = index.shape
  lanes = min(tiles.LANES, columns)
  found = []
  for c in range(0, columns, lanes):
    part = index[:, c : c + lanes]
    value = jnp.zeros(part.shape, table.dtype)
    for low in range(0, table.shape[1], tiles.LANES):
      near = jnp.take_along_axis(
        table[:, low : low + tiles.LANES], part & (tiles.LANES - 1), axis=1
      )
      value = jnp.where(part - (part & (tiles.LANES - 1)) == low, near, value)
    found.append(value)
  return jnp.concatenate(found, 1)
