"""How vectors lie: alignment, uniformity, anisotropy.

Wang and Isola, arXiv:2005.10242 (alignment and uniformity); Ethayarajh,
arXiv:1909.00512 (mean cosine, self-similarity); Mu and Viswanath,
arXiv:1702.01417 (isotropy). All in float64.
"""

import numpy as np
import scipy.special

_AT_ONCE = 1024  # rows of a block of pairs


def unit(x) -> np.ndarray:
  """x [n, d] on the sphere, float64; a row of zeros stays."""
  x = np.asarray(x, np.float64)
  norms = np.linalg.norm(x, axis=-1, keepdims=True)
  return x / np.where(norms == 0, 1.0, norms)


def alignment(x, y, power: float = 2.0) -> float:
  """Mean |x - y|^power of unit vectors of pairs [n, d]; 0 at best, below 4."""
  apart = np.linalg.norm(unit(x) - unit(y), axis=-1)
  return float(np.mean(apart**power))


def uniformity(x, t: float = 2.0) -> float:
  """log mean exp(-t |x_i - x_j|^2) over pairs i < j of unit vectors [n, d].

  0 where all are one; `uniform_sphere` where they are spread evenly.
  """
  x = unit(x)
  parts = []
  for start in range(0, len(x), _AT_ONCE):
    block = x[start : start + _AT_ONCE] @ x[start:].T
    cosines = block[np.triu_indices(len(block), k=1, m=block.shape[1])]
    if len(cosines):
      parts.append(scipy.special.logsumexp(-2.0 * t * (1 - cosines)))
  pairs = len(x) * (len(x) - 1) / 2
  return float(scipy.special.logsumexp(parts) - np.log(pairs))


def uniform_sphere(width: int, t: float = 2.0) -> float:
  """The expected `uniformity` of even points on the sphere in `width`.

  log[e^-2t Gamma(d/2) t^(1 - d/2) I_(d/2 - 1)(2t)], the Bessel function as
  a series that does not vanish in wide spaces.
  """
  return float(-2 * t + np.log(scipy.special.hyp0f1(width / 2.0, t * t)))


def mean_cosine(x) -> float:
  """Mean cosine of all pairs i < j of [n, d]."""
  x = unit(x)
  count = len(x)
  total = np.sum(np.square(np.sum(x, axis=0))) - np.sum(x * x)
  return float(total / (count * (count - 1)))


def isotropy(x) -> float:
  """Least Z(c) over largest, Z(c) = sum exp(c.x), of [n, d]; 1 at best.

  c are the eigenvectors of x^T x with both signs, for the sign of an
  eigenvector is nobody's choice.
  """
  x = np.asarray(x, np.float64)
  _, vectors = np.linalg.eigh(x.T @ x)
  along = x @ vectors
  both = np.concatenate([along, -along], axis=1)
  sums = scipy.special.logsumexp(both, axis=0)
  return float(np.exp(sums.min() - sums.max()))


def spectrum(x) -> np.ndarray:
  """Eigenvalues of the covariance of [n, d], as shares that sum to 1."""
  x = np.asarray(x, np.float64)
  values = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
  total = values.sum()
  return values / total if total else values


def effective_rank(x) -> float:
  """exp of the entropy of the spectrum."""
  return float(np.exp(np.sum(scipy.special.entr(spectrum(x)))))


def participation_ratio(x) -> float:
  """(sum of eigenvalues)^2 / sum of their squares; 0 of a single point."""
  square = np.sum(np.square(spectrum(x)))
  return float(1.0 / square) if square else 0.0


def self_similarity(sentences) -> float:
  """Mean over sentences [tokens, d] of the mean cosine of their tokens."""
  return float(np.mean([mean_cosine(x) for x in sentences if len(x) > 1]))


def measures(x) -> dict[str, float]:
  """What describes the spread of vectors [n, d], one number a name."""
  centred = np.asarray(x, np.float64) - np.mean(x, axis=0, dtype=np.float64)
  return {
    "uniformity": uniformity(x),
    "mean_cosine": mean_cosine(x),
    "centred_mean_cosine": mean_cosine(centred),
    "isotropy": isotropy(x),
    "effective_rank": effective_rank(x),
    "participation_ratio": participation_ratio(x),
  }
