"""Whitening of sentence vectors (Su et al., arXiv:2103.15316)."""

from typing import NamedTuple

import numpy as np

from jaxlm import errors

_SMALL = 1e-10  # of the largest eigenvalue: directions that data do not have


class Whitening(NamedTuple):
  """y = (x - mean) W.

  Attributes:
    mean: float64 [d].
    matrix: float64 [d, k].
  """

  mean: np.ndarray
  matrix: np.ndarray

  def __call__(self, x) -> np.ndarray:
    """x [n, d] with mean 0 and covariance I of what was fitted, [n, k]."""
    return (np.asarray(x, np.float64) - self.mean) @ self.matrix


def fit(x, keep: int = 0) -> Whitening:
  """U L^(-1/2) of the covariance U L U^T of x [n, d].

  Directions without variance, as where n <= d, are left out: the release
  divides by the rounding errors there.

  Args:
    x: the vectors.
    keep: so many directions of most variance; 0 for all.

  Raises:
    UserError: a `keep` that is negative or above d, or vectors that are all
      one.
  """
  x = np.asarray(x, np.float64)
  if not 0 <= keep <= x.shape[1]:
    raise errors.UserError(
      f"keep is {keep}; vectors of {x.shape[1]} keep from 1 to {x.shape[1]} "
      "directions, 0 for all."
    )
  mean = x.mean(axis=0)
  covariance = np.cov(x.T, ddof=1).reshape(x.shape[1], -1)
  values, vectors = np.linalg.eigh(covariance)
  values, vectors = values[::-1], vectors[:, ::-1]
  there = values > _SMALL * max(values[0], np.finfo(np.float64).tiny)
  if not there.any():
    raise errors.UserError("All vectors are one: nothing can be whitened.")
  kept = min(int(there.sum()), keep or x.shape[1])
  return Whitening(mean, vectors[:, :kept] / np.sqrt(values[:kept]))
