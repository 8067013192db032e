"""The matrices of a Monarch-decomposed Fourier transform of real signals.

A transform of N = N1 N2 ... Np points is a product of p small transforms with
"twiddle" factors between them (Cooley and Tukey, 1965; as products of
matrices for matrix units: Dao et al., "Monarch", arXiv:2204.00595, Fu et al.,
"FlashFFTConv", arXiv:2311.05908). Sample n has the digits n1..np, n1 the
slowest; frequency k has the digits k1..kp, k1 the fastest, and stays in the
order k1 slowest: a convolution needs no permutation.

Three things make the product small:

- Real signals need half the frequencies: rows k1 up to N1 / 2.
- Without a mask the frequencies are k + 1/2, not k. What wraps around the
  circle changes its sign then, which nothing does in a circle that is large
  enough, and every frequency has its conjugate in another row: N1 / 2 rows,
  no constant term and no Nyquist term on their own.
- Zeros after a signal are never multiplied: the first product reads only the
  rows n1 that hold samples, the last one computes only those that are wanted.
"""

import dataclasses
import functools
import itertools

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
  """Matrices in float64; hashed by what made them.

  Attributes:
    key: what the plan was made from.
    factors: (N1, .., Np).
    kept: for each digit the values of frequency's digits that are computed.
    twiddles: p - 1 pairs, after product s: [len(kept[s]), N / (N1 .. Ns)],
      real and imaginary.
    mask: bool [len(kept[0]), .., len(kept[p-1])], or None where all are kept.
  """

  key: tuple
  factors: tuple[int, ...]
  shift: float
  kept: tuple[np.ndarray, ...]
  twiddles: tuple
  mask: np.ndarray | None

  def __hash__(self):
    return hash(self.key)

  def __eq__(self, other):
    return isinstance(other, Plan) and self.key == other.key

  @property
  def points(self) -> int:
    """Points of the circle."""
    return int(np.prod(self.factors))

  @property
  def row(self) -> int:
    """Samples of a row, those that share their first digit."""
    return self.points // self.factors[0]

  @property
  def sign(self) -> int:
    """What a sample that wraps around the circle is multiplied with."""
    return 1 if self.shift == 0 else -1

  def rows(self, length: int) -> int:
    """Rows that hold the first `length` samples."""
    return -(-length // self.row)

  def analysis(self, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary [frequency digits kept, sample digits]."""
    n = self.factors[stage]
    shift = self.shift if stage == 0 else 0.0
    frequency = self.kept[stage][:, None] + shift
    return _unit(frequency * np.arange(n)[None, :] / n)

  def synthesis(self, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary [sample digits, frequency digits kept].

    The first stage's has 1 / N in it, and counts a row for its conjugate.
    """
    real, imaginary = self.analysis(stage)
    weight = np.ones(len(real))
    if stage == 0:
      k1, n1 = self.kept[0], self.factors[0]
      alone = (self.shift == 0) & ((k1 == 0) | (2 * k1 == n1))
      weight = np.where(alone, 1.0, 2.0) / self.points
    return (weight[:, None] * real).T, -(weight[:, None] * imaginary).T


def _unit(turns) -> tuple[np.ndarray, np.ndarray]:
  """exp(-2 pi i turns), exact for large turns too."""
  angle = -2.0 * np.pi * (turns - np.floor(turns))
  return np.cos(angle), np.sin(angle)


@functools.lru_cache(maxsize=64)
def plan(length: int, needed: int, order: int | None, mask: bytes | None):
  """The `Plan` of a convolution with the fewest multiplications.

  Args:
    length: samples of a signal.
    needed: points that the circle must have, or has exactly with a mask.
    order: number of factors, or None to choose.
    mask: bool [needed / 2 + 1] as bytes, or None.
  """
  orders = (order,) if order is not None else (2, 3)
  bits = None if mask is None else np.frombuffer(mask, bool)
  best = [
    min(_candidates(length, needed, p, bits), key=lambda c: c[0])
    for p in orders
  ]
  # A third product passes over the data twice more: it must save its worth.
  worse = len(best) == 2 and best[1][0] + _PASSES * needed >= best[0][0]
  _, factors, kept, grid = best[0] if worse else best[-1]
  shift = 0.5 if mask is None else 0.0
  key = (length, needed, order, mask)
  return Plan(
    key, factors, shift, tuple(kept), _twiddles(factors, kept, shift), grid
  )


@functools.lru_cache(maxsize=64)
def of_factors(factors: tuple[int, ...]):
  """The `Plan` of these factors, the first even, for filters without mask."""
  kept = np.arange(factors[0] // 2), *(np.arange(n) for n in factors[1:])
  return Plan(factors, factors, 0.5, kept, _twiddles(factors, kept, 0.5), None)


def _twiddles(factors, kept, shift):
  """See `Plan.twiddles`."""
  twiddles = []
  for s in range(len(factors) - 1):
    rest = int(np.prod(factors[s + 1 :]))
    frequency = kept[s][:, None] + (shift if s == 0 else 0.0)
    twiddles.append(
      _unit(frequency * np.arange(rest)[None, :] / (rest * factors[s]))
    )
  return tuple(twiddles)


# Multiplications a sample that two more passes over the data cost as much as.
_PASSES = 128


def _candidates(length, needed, order, mask):
  """(multiplications, factors, kept, grid) of every choice worth a look."""
  if mask is None:
    sizes = [2**e for e in range(10)]
  else:
    sizes = [n for n in range(1, 1025) if needed % n == 0]
  for later in itertools.product(sizes, repeat=order - 1):
    row = int(np.prod(later))
    if row > max(needed // 2, 1) or (mask is not None and needed % row):
      continue
    first, grid = -(-needed // row), None
    if mask is None:
      first += first % 2
    factors = (first, *later)
    half = first // 2 if mask is None else first // 2 + 1
    kept = [np.arange(half), *(np.arange(n) for n in later)]
    if mask is not None:
      kept, grid = _kept(mask, factors, kept)
    yield _work(length, factors, kept), factors, kept, grid


def _work(length, factors, kept):
  """Multiplications of a transform: one real product, then complex ones."""
  points = int(np.prod(factors))
  rest = points // factors[0]
  work, done = 2 * len(kept[0]) * -(-length // rest) * rest, len(kept[0])
  for n, digits in zip(factors[1:], kept[1:], strict=True):
    work += 4 * done * len(digits) * rest
    rest //= n
    done *= len(digits)
  return work


def _kept(mask, factors, kept):
  """Digits that some unmasked frequency has, and the mask on their grid."""
  points = int(np.prod(factors))
  frequency, scale = np.zeros((1,) * len(kept), np.int64), 1
  for s, digits in enumerate(kept):
    shape = [1] * len(kept)
    shape[s] = -1
    frequency = frequency + scale * digits.reshape(shape)
    scale *= factors[s]
  grid = mask[np.minimum(frequency, points - frequency)]
  for s in range(len(kept)):
    others = tuple(i for i in range(len(kept)) if i != s)
    some = grid.any(axis=others)
    some[0] |= not some.any()  # nothing kept: one masked digit stands for it
    grid = np.compress(some, grid, axis=s)
    kept[s] = kept[s][some]
  return kept, None if grid.all() else grid
