"""The two kernels: what is done for each window of positions."""

import dataclasses

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from pallas_kernels.dynamic_convolution.mosaic_tpu import band
from pallas_kernels.dynamic_convolution.mosaic_tpu.band import (
  HALO,
  LANES,
  OWN,
)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a kernel is compiled for.

  Attributes:
    length: positions of a row of the batch.
    rows: positions of a block; all of them, or a multiple of OWN.
    heads: number of heads.
    head_dim: channels of a head; divides LANES or is a multiple of it.
    width: taps of a head.
    segmented: whether there are segment ids.
  """

  length: int
  rows: int
  heads: int
  head_dim: int
  width: int
  segmented: bool

  @property
  def alone(self) -> bool:
    """Whether one block is a whole row, without neighbours."""
    return self.rows == self.length

  @property
  def windows(self) -> int:
    """Windows of a block."""
    return -(-self.rows // OWN)

  @property
  def heads_of_tile(self) -> int:
    """Heads whose taps share the lanes of a register."""
    return LANES // self.width

  @property
  def tap_tiles(self) -> int:
    """Registers' widths that the taps of all heads take."""
    return -(-self.heads // self.heads_of_tile)

  def tap_lanes(self, tile: int) -> tuple[int, int]:
    """(heads, lanes that they take in the array) of a tile of taps."""
    heads = min(self.heads - tile * self.heads_of_tile, self.heads_of_tile)
    return heads, heads * self.width if self.tap_tiles == 1 else LANES

  def channels(self):
    """(slice of channels, heads in it), of LANES or one head's width each."""
    size = max(LANES, self.head_dim)
    total = self.heads * self.head_dim
    for first in range(0, total, size):
      last = min(first + size, total)
      yield (
        slice(first, last),
        range(first // self.head_dim, last // self.head_dim),
      )


def forward(*refs, plan: Plan):
  """out of a block, window by window; refs as `call.py` passes them."""
  block, refs = pl.program_id(1), iter(refs)
  segments_ref = next(refs) if plan.segmented else None
  values, logits_ref = _blocks(refs, plan), next(refs)
  out_ref, values_ref, taps_ref = refs
  _assemble(values_ref, values)
  taps_ref[: plan.rows, : logits_ref.shape[1]] = logits_ref[...].astype(
    jnp.float32
  )

  def window(start, rows, number):
    real, same = _visible(segments_ref, block, start, number, plan)
    own = slice(HALO, HALO + OWN)
    offset = plan.width // 2 - HALO
    same = None if same is None else same[own]
    taps = _taps(taps_ref, pl.ds(start, OWN), real[own], plan)
    for channels, heads in plan.channels():
      values = _clean(values_ref[pl.ds(start, LANES), channels], real)
      out = None
      for head in heads:
        weights = _band(taps, head, offset, plan)
        weights = weights if same is None else jnp.where(same, weights, 0.0)
        found = band.dot(weights.astype(values.dtype), values, ((1,), (0,)))
        out = _own_lanes(found, out, head, heads, plan)
      if plan.segmented:
        out = jnp.where(_like(real[own], out), out, 0.0)
      out_ref[pl.ds(start, rows), channels] = out[:rows].astype(out_ref.dtype)

  _each_window(window, plan)


def backward(*refs, plan: Plan):
  """Both gradients of a block, window by window."""
  block, refs = pl.program_id(1), iter(refs)
  segments_ref = next(refs) if plan.segmented else None
  values, grads, logits = (_blocks(refs, plan) for _ in range(3))
  grad_values_ref, grad_logits_ref, values_ref, grads_ref, taps_ref = refs
  _assemble(values_ref, values)
  _assemble(grads_ref, grads)
  _assemble(taps_ref, logits)

  def window(start, rows, number):
    real, same = _visible(segments_ref, block, start, number, plan)
    place, offset = pl.ds(start, LANES), plan.width // 2
    own = slice(HALO, HALO + rows)
    taps = _taps(taps_ref, place, real, plan)
    grad_taps = [jnp.zeros_like(tile) for tile in taps]
    for channels, heads in plan.channels():
      values = _clean(values_ref[place, channels], real)
      grads = _clean(grads_ref[place, channels], real)
      grad_values = None
      for head in heads:
        weights = _band(taps, head, offset, plan)
        weights = weights if same is None else jnp.where(same, weights, 0.0)
        found = band.dot(weights.astype(grads.dtype), grads, ((0,), (0,)))
        grad_values = _own_lanes(found, grad_values, head, heads, plan)
        mine = _only_lanes(grads, head, heads, plan)
        found = band.dot(mine, values, ((1,), (1,)))
        found = found if same is None else jnp.where(same, found, 0.0)
        tile, inner = divmod(head, plan.heads_of_tile)
        grad_taps[tile] = band.collect(
          found, grad_taps[tile], inner, offset, plan.width
        )
      out = grad_values[own].astype(grad_values_ref.dtype)
      grad_values_ref[pl.ds(start, rows), channels] = out
    for tile, grad in enumerate(grad_taps):
      mean = band.group_sum(taps[tile] * grad, plan.width)
      out = (taps[tile] * (grad - mean))[own].astype(grad_logits_ref.dtype)
      lanes = plan.tap_lanes(tile)[1]
      grad_logits_ref[
        pl.ds(start, rows), tile * LANES : tile * LANES + lanes
      ] = out[:, :lanes]

  _each_window(window, plan)


def _each_window(window, plan):
  """window(first position in the block, positions to store, its number)."""
  full, rest = divmod(plan.rows, OWN)

  def step(number, carry):
    window(pl.multiple_of(number * OWN, HALO), OWN, number)
    return carry

  if full:
    lax.fori_loop(0, full, step, 0)
  if rest:
    window(full * OWN, rest, full)


def _blocks(refs, plan):
  """(block, rows before it or None, rows after it or None)."""
  return [next(refs) if not i or not plan.alone else None for i in range(3)]


def _assemble(scratch, blocks):
  """The block from row HALO of scratch on, its neighbours around it."""
  block, before, after = blocks
  rows, lanes = block.shape
  parts = (0, before), (HALO, block), (HALO + rows, after)
  for first, part in parts:
    if part is not None:
      last = first + part.shape[0]
      scratch[first:last, :lanes] = part[...].astype(scratch.dtype)


def _visible(segments_ref, block, start, number, plan):
  """What a window holds, from HALO positions before its own on.

  Returns:
    real: [LANES, LANES] bool, rows that exist and are no padding.
    same: [LANES, LANES] bool, whether a row and a column share a segment; None
      where there are no segments.
  """
  shape = LANES, LANES
  if not plan.segmented:
    first = block * plan.rows + start - HALO
    place = first + band.row(shape)
    return (place >= 0) & (place < plan.length), None
  across = jnp.broadcast_to(segments_ref[pl.ds(number, 1), :], shape)
  down = jnp.transpose(across)
  return down > 0, down == across


def _taps(taps_ref, place, real, plan):
  """Softmaxed taps [rows, LANES] float32 of each tile of heads."""
  tiles = []
  for tile in range(plan.tap_tiles):
    logits = taps_ref[place, tile * LANES : (tile + 1) * LANES]
    heads = plan.tap_lanes(tile)[0]
    tiles.append(band.softmax(logits, real, width=plan.width, heads=heads))
  return tiles


def _band(taps, head, offset, plan):
  tile, inner = divmod(head, plan.heads_of_tile)
  return band.spread(taps[tile], inner, offset, plan.width)


def _like(mask, x):
  """[rows, LANES] mask of whole rows, as wide as x."""
  if x.shape[1] <= LANES:
    return mask[:, : x.shape[1]]
  return jnp.concatenate([mask] * (x.shape[1] // LANES), axis=1)


def _clean(x, real):
  """x with 0 in rows that are not real, whatever they hold."""
  wide = x.astype(jnp.float32)
  return jnp.where(_like(real, x), wide, 0.0).astype(x.dtype)


def _own_lanes(found, others, head, heads, plan):
  """`found` in the lanes of a head, `others` elsewhere."""
  if others is None:
    return found
  return jnp.where(_mine(found.shape, head, heads, plan), found, others)


def _only_lanes(x, head, heads, plan):
  """x with 0 in the lanes of other heads."""
  if len(heads) == 1:
    return x
  mine = _mine(x.shape, head, heads, plan)
  return jnp.where(mine, x.astype(jnp.float32), 0.0).astype(x.dtype)


def _mine(shape, head, heads, plan):
  lane = band.lane(shape) - (head - heads[0]) * plan.head_dim
  return (lane >= 0) & (lane < plan.head_dim)
