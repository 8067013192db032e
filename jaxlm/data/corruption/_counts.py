"""How many tokens of a row are selected; papers count differently.

`exact`: round(rate * n), n selectable tokens, half to even. `total`: the same
of all tokens, special ones included (BERT). `ceil`: rounded up (SpanBERT).
`unbiased`: floor(rate * n + uniform) (fairseq, RoBERTa). Always at least one
where a token can be selected. Tables are made in float64, because 0.15 * 510
is 76.5 there and rounds to 76, and just above it in float32.
"""

import math

import numpy as np

COUNTS = ("exact", "total", "ceil", "unbiased")


def most(rate: float, length: int, count: str) -> int:
  """The most tokens that a row of this length can have selected."""
  if count == "unbiased":
    return min(length, math.floor(rate * length) + 1)
  if count == "ceil":
    return max(1, int(table(rate, length, count).max()))
  return max(1, math.ceil(round(rate * length, 6)))


def table(rate: float, length: int, count: str) -> np.ndarray:
  """int32 [length + 1]: how many of n tokens, for each n.

  For `unbiased` rounded down, before the random part.
  """
  exact = np.round(rate * np.arange(length + 1, dtype=np.float64), 9)
  if count == "ceil":
    return np.ceil(exact).astype(np.int32)
  if count == "unbiased":
    return np.floor(exact).astype(np.int32)
  return np.round(exact).astype(np.int32)


def fractions(rate: float, length: int) -> np.ndarray:
  """float32 [length + 1]: the chance that `unbiased` takes one more."""
  exact = np.round(rate * np.arange(length + 1, dtype=np.float64), 9)
  return (exact - np.floor(exact)).astype(np.float32)


def copies(rate: float, predicted: float, length: int, count: str) -> int:
  """Rows that hide `rate` each, to predict `predicted` together.

  Wettig et al., arXiv:2202.08005, section 5: ceil(k_p / k_c) of a full row.
  """
  if predicted <= rate:
    return 1
  hidden, told = (
    max(1, int(table(share, length, count)[length]))
    for share in (rate, predicted)
  )
  return -(-told // hidden)


def most_of_copy(
  rate: float, predicted: float, length: int, count: str, copies: int
) -> int:
  """The most tokens that one of these copies hides: `share_of_copy`."""
  extra = int(count == "unbiased")
  hidden, told = (
    np.clip(table(share, length, count) + extra, 1, length)
    for share in (rate, predicted)
  )
  return int(np.maximum(hidden, -(-told // copies)).max())
