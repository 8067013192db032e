"""How many rows of a batch come from each of several sources.

A batch of B rows takes rows by systematic sampling: of borders B times the
cumulated rates, moved by one random number a step, so that each source has
its rate times B rows, rounded up or down, and on average exactly its rate.
What a source gave before a step is a sum over the steps before, in blocks
that are counted once.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlm import errors

BLOCK = 4096  # steps counted at once
_MOVE, _PLACES = 1, 2  # streams of random numbers


class Stage(NamedTuple):
  """From `start` on, rates of all sources in the order of their names."""

  start: int
  rates: tuple[float, ...]


class Shares(NamedTuple):
  """What each source gives.

  Attributes:
    batch_size: rows of a batch.
    stages: by ascending start, the first at 0.
  """

  batch_size: int
  stages: tuple[Stage, ...]

  def counts(self, seed: int, step: int) -> np.ndarray:
    """int64 [sources], rows of the batch of a step."""
    block, place = divmod(step, BLOCK)
    return _counted(self, seed, block)[place]

  def before(self, seed: int, step: int) -> np.ndarray:
    """int64 [sources], rows that all steps before this one took."""
    block, place = divmod(step, BLOCK)
    done = _counted(self, seed, block)[:place].sum(axis=0)
    return sum((_total(self, seed, b) for b in range(block)), start=done)

  def sources(self, seed: int, step: int) -> np.ndarray:
    """int64 [batch_size], which source each row comes from; well mixed."""
    counts = self.counts(seed, step)
    key = np.array([seed % 2**64, (step << 2) + _PLACES], np.uint64)
    words = np.random.Philox(key=key).random_raw(self.batch_size)
    places = np.argsort(words, kind="stable")
    return np.repeat(np.arange(len(counts)), counts)[places]


@functools.lru_cache(maxsize=8)
def _counted(shares: Shares, seed: int, block: int) -> np.ndarray:
  """int64 [BLOCK, sources], rows of each step of a block."""
  steps = np.arange(block * BLOCK, (block + 1) * BLOCK)
  starts = np.array([stage.start for stage in shares.stages])
  borders = np.stack([_borders(stage.rates) for stage in shares.stages])
  borders = borders[np.searchsorted(starts, steps, side="right") - 1]
  key = np.array([seed % 2**64, (block << 2) + _MOVE], np.uint64)
  words = np.random.Philox(key=key).random_raw(BLOCK)
  moved = (words >> np.uint64(11)) / 2.0**53  # 0 up to below 1
  reached = np.floor(shares.batch_size * borders + moved[:, None])
  return np.diff(reached, axis=1, prepend=0).astype(np.int64)


@functools.lru_cache(maxsize=1 << 16)
def _total(shares: Shares, seed: int, block: int) -> np.ndarray:
  return _counted(shares, seed, block).sum(axis=0)


def _borders(rates) -> np.ndarray:
  """Cumulated shares, the last exactly 1."""
  reached = np.cumsum(rates, dtype=np.float64)
  return reached / reached[-1]


def stages(
  names: Sequence[str],
  rates: Mapping[str, float],
  told: Mapping[str, Mapping[str, Any]],
) -> tuple[Stage, ...]:
  """The stages of a config, checked.

  Args:
    names: of the sources, sorted.
    rates: from the first step on, name -> rate; relative; who is left out
      has 0.
    told: name of a stage -> dict(start=step, rates=rates from then on).

  Raises:
    UserError: unknown sources, rates that are negative or all 0, or starts
      that are no steps or the same.
  """
  found = [Stage(0, _rates(names, rates, "data.rates"))]
  for name, stage in told.items():
    where = f"data.stages.{name}"
    if not isinstance(stage, Mapping) or set(stage) != {"start", "rates"}:
      raise errors.UserError(
        f"{where} is {stage!r}; expected dict(start=STEP, rates=dict(...))."
      )
    start = stage["start"]
    if isinstance(start, bool) or not isinstance(start, int) or start < 1:
      raise errors.UserError(
        f"{where}.start is {start!r}; it is a step, at least 1: before it "
        "data.rates hold."
      )
    found.append(Stage(start, _rates(names, stage["rates"], f"{where}.rates")))
  found.sort(key=lambda stage: stage.start)
  starts = [stage.start for stage in found]
  if len(set(starts)) < len(starts):
    raise errors.UserError(
      f"data.stages start at {starts[1:]}; each needs a start of its own."
    )
  return tuple(found)


def _rates(names, rates, where) -> tuple[float, ...]:
  if not isinstance(rates, Mapping):
    raise errors.UserError(
      f"{where} is {rates!r}; expected dict({names[0]}=0.5, ...)."
    )
  for name, rate in rates.items():
    if name not in names:
      raise errors.unknown(f"{where} names no source", name, names)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or rate < 0:
      raise errors.UserError(
        f"{where}.{name} is {rate!r}; it is a number of at least 0."
      )
  found = tuple(float(rates.get(name, 0.0)) for name in names)
  if not sum(found):
    raise errors.UserError(
      f"{where} gives no source a rate above 0; sources: {', '.join(names)}."
    )
  return found
