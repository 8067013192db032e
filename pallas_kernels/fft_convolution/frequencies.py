"""Masks of frequency-sparse filters (FlashFFTConv, arXiv:2311.05908)."""

import numpy as np


def low_pass(points: int, kept: int) -> np.ndarray:
  """[points / 2 + 1] bool: the `kept` lowest frequencies.

  Args:
    points: of the circle, even; see `fft_convolution`.
    kept: frequencies, the constant one included.

  Raises:
    ValueError: an odd number of points.
  """
  _check(points)
  return np.arange(points // 2 + 1) < kept


def monarch(points: int, factors, kept) -> np.ndarray:
  """[points / 2 + 1] bool: a block of the frequencies in Monarch order.

  Frequency k = k1 + N1 k2 (+ N1 N2 k3) is kept where every digit is small
  enough; of k and its conjugate, points - k, the one with k1 <= N1 / 2
  decides, and both where both have it. Whole rows and columns of the
  transform's matrices fall away, and with them their products.

  Args:
    points: of the circle, even.
    factors: (N1, N2) or (N1, N2, N3), whose product is `points`.
    kept: for each factor, how many of its digits are kept; of the first at
      most N1 / 2 + 1 have an effect.

  Raises:
    ValueError: factors that do not make up `points`.
  """
  _check(points)
  if int(np.prod(factors)) != points or len(kept) != len(factors):
    raise ValueError(f"factors {factors}, kept {kept}: not of {points} points")
  frequency = np.arange(points // 2 + 1)
  mirror = (points - frequency) % points
  inside = [_inside(k, factors, kept) for k in (frequency, mirror)]
  decides = [k % factors[0] <= factors[0] // 2 for k in (frequency, mirror)]
  return (inside[0] | ~decides[0]) & (inside[1] | ~decides[1])


def _inside(frequency, factors, kept):
  inside = np.ones(frequency.shape, bool)
  for factor, limit in zip(factors, kept, strict=True):
    inside &= frequency % factor < limit
    frequency = frequency // factor
  return inside


def _check(points):
  if points < 2 or points % 2:
    raise ValueError(f"{points} points: must be even and positive")
