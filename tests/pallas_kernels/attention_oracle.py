"""Attention and all of its gradients in NumPy, float64, from the formula.

Written from the text of `operands.py` and the papers, one [batch, heads,
queries, keys] array after the other; shares no code with the package.
"""

from fractions import Fraction

import numpy as np


def t5_bucket(distance: int, buckets: int, longest: int, both: bool) -> int:
  """T5's text (appendix of arXiv:1910.10683), in exact arithmetic."""
  bucket = 0
  if both:
    buckets //= 2
    if distance > 0:
      bucket = buckets
    distance = abs(distance)
  else:
    distance = max(-distance, 0)
  exact = buckets // 2
  if distance < exact:
    return bucket + distance
  steps = buckets - exact
  # The largest k < steps with (distance / exact)^steps >= (longest / exact)^k.
  power = Fraction(distance, exact) ** steps
  ratio = Fraction(longest, exact)
  k = 0
  while k < steps - 1 and power >= ratio ** (k + 1):
    k += 1
  return bucket + exact + k


def visible(case) -> np.ndarray:
  """[batch, 1, queries, keys] bool."""
  seen = np.ones((case.batch, 1, case.queries, case.keys), bool)
  place = np.arange(case.queries)[:, None] + case.query_offset
  j = np.arange(case.keys)[None, :]
  if case.causal:
    seen &= j <= place
  if case.window is not None:
    seen &= (j - place >= -case.window[0]) & (j - place <= case.window[1])
  q_ids, k_ids = case.segment_ids()
  if q_ids is not None:
    seen &= (q_ids[:, :, None] == k_ids[:, None, :])[:, None]
    seen &= (k_ids > 0)[:, None, None, :]
  return seen


def mix(x):
  """The hash of `dropout.py`'s text, on uint32."""
  with np.errstate(over="ignore"):
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def kept(case, seeds) -> np.ndarray:
  """[batch, heads, queries, keys]: 1 / (1 - rate) or 0."""
  shape = (case.batch, case.heads, case.queries, case.keys)
  if not case.dropout:
    return np.ones(shape)
  row = np.arange(np.prod(shape[:3]), dtype=np.uint32) + seeds[0]
  column = np.arange(case.keys, dtype=np.uint32) + seeds[1]
  bits = mix(mix(row)[:, None] ^ column[None]).reshape(shape)
  below = min(round((1 - case.dropout) * 2**32), 2**32 - 1)
  return (bits < below) / (1 - case.dropout)


class Oracle:
  """One case: `out`, and `gradients` by the names of its arrays.

  Args:
    case: a `Case` of `attention_contract`.
    arrays: float64, by name; what stands at padding must be finite here.
    seeds: [2] uint32, of dropout.
    grad_out: [batch, queries, heads, value_dim] float64.
  """

  def __init__(self, case, arrays, seeds, grad_out):
    self.case, self.arrays = case, arrays
    i, j = np.arange(case.queries)[:, None], np.arange(case.keys)[None, :]
    self.place = j - i + case.queries - 1
    self.distance = j - i - case.query_offset
    group = case.heads // case.key_heads
    key = np.repeat(arrays["key"], group, axis=2)
    value = np.repeat(arrays["value"], group, axis=2)
    scores = case.scale * np.einsum("bihd,bjhd->bhij", arrays["query"], key)
    scores = scores + self._positional() + self._content()
    slope = 1.0
    if case.soft_cap is not None:
      tanh = np.tanh(scores / case.soft_cap)
      scores, slope = case.soft_cap * tanh, 1 - tanh**2
    seen = visible(case)
    top = np.max(np.where(seen, scores, -np.inf), -1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    weights = np.where(seen, np.exp(np.minimum(scores - top, 0.0)), 0.0)
    total = weights.sum(-1, keepdims=True)
    weights = weights / np.where(total > 0, total, 1.0)
    keep = kept(case, seeds)
    self.out = np.einsum("bhij,bjhd->bihd", weights * keep, value)

    grad = keep * np.einsum("bihd,bjhd->bhij", grad_out, value)
    mean = np.sum(weights * grad, -1, keepdims=True)
    grad = slope * weights * (grad - mean)
    grouped = lambda x: x.reshape(
      case.batch, case.keys, case.key_heads, group, -1
    ).sum(3)
    self.gradients = dict(
      query=case.scale * np.einsum("bhij,bjhd->bihd", grad, key),
      key=case.scale
      * grouped(np.einsum("bhij,bihd->bjhd", grad, arrays["query"])),
      value=grouped(np.einsum("bhij,bihd->bjhd", weights * keep, grad_out)),
    )
    self.gradients |= self._of_terms(grad) | self._of_untied(grad)

  def _has(self, *names):
    return any(name in self.arrays for name in names)

  def _buckets(self):
    distances = np.arange(self.distance.min(), self.distance.max() + 1)
    table = [t5_bucket(int(d), *self.case.t5()) for d in distances]
    return np.array(table)[self.distance - distances[0]]

  def _positional(self):
    """toeplitz, buckets, slopes and untied, replaced by theta."""
    a, total = self.arrays, np.zeros((1, 1, 1, 1))
    if self._has("toeplitz"):
      total = total + a["toeplitz"][:, self.place][None]
    if self._has("table"):
      total = total + np.moveaxis(a["table"][self._buckets()], -1, 0)[None]
    if self._has("slopes"):
      total = total - (a["slopes"][:, None, None] * np.abs(self.distance))[None]
    if self._has("untied_query"):
      q, k = self._untied()
      total = total + np.einsum("bihd,bjhd->bhij", q, k)
    if self._has("theta"):
      first, second = self._resets()
      theta = a["theta"][:, None, :, None, None]
      total = np.where(second, theta[1], total)
      total = np.where(first, theta[0], total)
    return total

  def _untied(self):
    names = ("untied_query", "untied_key")
    shapes = [(self.case.batch, *self.arrays[n].shape[1:]) for n in names]
    return [np.broadcast_to(self.arrays[n], s) for n, s in zip(names, shapes)]

  def _resets(self):
    """Where theta[0] stands, and where theta[1] does unless theta[0] does."""
    query_first, key_first = self.case.firsts()
    shape = (query_first.shape[0], 1, self.case.queries, self.case.keys)
    return (
      np.broadcast_to(query_first[:, None, :, None] > 0, shape),
      np.broadcast_to(key_first[:, None, None, :] > 0, shape),
    )

  def _content(self):
    """dense, c2p and p2c."""
    a, total = self.arrays, np.zeros((1, 1, 1, 1))
    if self._has("dense"):
      total = total + a["dense"]
    for name in ("c2p", "p2c"):
      if self._has(name):
        total = total + a[name][self._table_index(name)]
    return total

  def _table_index(self, name):
    """Indices of c2p or p2c that give [batch, heads, queries, keys]."""
    case = self.case
    b, h, i, j = np.ogrid[
      : case.batch, : case.heads, : case.queries, : case.keys
    ]
    bucket = case.table_buckets(name)[self.place][None, None]
    return b, (i if name == "c2p" else j), h, bucket

  def _of_terms(self, grad):
    """Gradients of what is added to scores, of the scores' gradient."""
    arrays, found = self.arrays, {}
    zeros = lambda name: np.zeros(arrays[name].shape)
    if self._has("dense"):
      shape = arrays["dense"].shape
      axes = tuple(n for n in (0, 1) if shape[n] == 1)
      found["dense"] = grad.sum(axes, keepdims=True)
    for name in ("c2p", "p2c"):
      if self._has(name):
        found[name] = zeros(name)
        np.add.at(found[name], self._table_index(name), grad)
    if self._has("theta"):
      first, second = self._resets()
      found["theta"] = np.stack(
        [
          np.where(at, grad, 0).sum((0, 2, 3))
          for at in (first, second & ~first)
        ]
      )
    grad = self._between_others(grad)
    by_head = np.moveaxis(grad.sum(0), 0, -1)  # [queries, keys, heads]
    if self._has("slopes"):
      away = np.abs(self.distance)[None, None]
      found["slopes"] = -np.sum(grad * away, (0, 2, 3))
    if self._has("toeplitz"):
      found["toeplitz"] = zeros("toeplitz")
      np.add.at(found["toeplitz"].T, self.place, by_head)
    if self._has("table"):
      found["table"] = zeros("table")
      np.add.at(found["table"], self._buckets(), by_head)
    return found

  def _between_others(self, grad):
    """The gradient where no theta stands."""
    if not self._has("theta"):
      return grad
    first, second = self._resets()
    return np.where(first | second, 0, grad)

  def _of_untied(self, grad):
    if not self._has("untied_query"):
      return {}
    q, k = self._untied()
    grad = self._between_others(grad)
    found = {
      "untied_query": np.einsum("bhij,bjhd->bihd", grad, k),
      "untied_key": np.einsum("bhij,bihd->bjhd", grad, q),
    }
    return {
      name: x.sum(0, keepdims=True) if self.arrays[name].shape[0] == 1 else x
      for name, x in found.items()
    }
