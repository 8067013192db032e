"""Pseudo-log-likelihood of sentences under a masked language model.

Salazar et al., "Masked Language Model Scoring", 2020, arXiv:1910.14659: each
token is masked in turn, and the log-probabilities of the true tokens are
summed. A sentence of n tokens becomes n rows, so rows are sorted into buckets
of similar length and scored in batches of static shape: few compilations,
little padding. No model is imported: the caller passes the function that
scores.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

BUCKET = 8  # lengths are rounded up to a multiple of this


class Preference(NamedTuple):
  """How often the first sentence of a pair scored higher.

  `share` of `count` pairs, ties counted as half; `error` is its binomial
  standard error.
  """

  share: float
  error: float
  count: int


def pll(
  score: Callable[..., np.ndarray],
  tokenizer,
  sentences: Sequence[str],
  *,
  rows: int = 256,
  progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
  """Sum of log p(token | the others) of each sentence, float64 [sentences].

  Args:
    score: `(inputs, segments, positions, predict_positions) -> log_probs`:
      int32 [rows, length] three times, int32 [rows, 1], float [rows, vocab].
      `rows` is always the same; `length` is a multiple of `BUCKET`.
    tokenizer: a `jaxlm.data.tokenizer.Tokenizer` or alike.
    sentences: texts; special tokens are added around them and never scored.
    rows: rows of a batch.
    progress: called with (rows done, rows in all) after each batch.
  """
  texts = [_bracketed(ids, tokenizer) for ids in _encode(tokenizer, sentences)]
  totals = np.zeros(len(texts))
  done, all_rows = 0, sum(len(places) for _, places in texts)
  for length, members in _buckets(texts).items():
    for start in range(0, len(members), rows):
      owners, places = zip(*members[start : start + rows])
      batch, true = _batch(texts, owners, places, length, rows, tokenizer)
      log_probs = np.asarray(score(*batch))
      n = len(owners)
      chosen = log_probs[np.arange(n), true[:n]].astype(np.float64)
      np.add.at(totals, np.asarray(owners), chosen)
      done += n
      if progress is not None:
        progress(done, all_rows)
  return totals


def preference(first: np.ndarray, second: np.ndarray) -> Preference:
  """Share of the pairs whose first score is higher; ties count as half.

  Args:
    first: scores [pairs] of the real sentences.
    second: scores [pairs] of the changed ones.

  Raises:
    ValueError: no pairs, or scores that are not numbers.
  """
  first, second = np.asarray(first), np.asarray(second)
  if not first.size or not np.all(np.isfinite(first) & np.isfinite(second)):
    raise ValueError(f"{first.size} pairs; their scores must be finite")
  wins = np.where(first == second, 0.5, first > second)
  share = float(wins.mean())
  error = math.sqrt(share * (1 - share) / len(wins))
  return Preference(share, error, len(wins))


def _encode(tokenizer, sentences) -> list[list[int]]:
  return tokenizer.encode_batch(list(sentences))


def _bracketed(ids, tokenizer) -> tuple[np.ndarray, np.ndarray]:
  """Ids with special tokens, and the places of the text's own tokens."""
  whole = np.asarray(tokenizer.bracket(ids)[0], np.int32)
  # The text stands between the brackets, which frame any text alike.
  marked = tokenizer.bracket([-1] * len(ids))[0]
  return whole, np.flatnonzero(np.asarray(marked) == -1)


def _buckets(texts) -> dict[int, list[tuple[int, int]]]:
  """Rounded length -> (sentence, place to mask), in order of length."""
  buckets: dict[int, list[tuple[int, int]]] = {}
  for owner, (ids, places) in enumerate(texts):
    length = -(-len(ids) // BUCKET) * BUCKET
    buckets.setdefault(length, []).extend((owner, int(p)) for p in places)
  return dict(sorted(buckets.items()))


def _batch(texts, owners, places, length, rows, tokenizer):
  """((inputs, segments, positions, predict_positions), true ids [rows])."""
  inputs = np.full((rows, length), tokenizer.pad_id, np.int32)
  segments = np.zeros((rows, length), np.int32)
  predict = np.zeros((rows, 1), np.int32)
  true = np.zeros(rows, np.int32)
  for row, (owner, place) in enumerate(zip(owners, places)):
    ids = texts[owner][0]
    inputs[row, : len(ids)] = ids
    inputs[row, place] = tokenizer.mask_id
    segments[row, : len(ids)] = 1
    predict[row, 0] = place
    true[row] = ids[place]
  segments[len(owners) :, 0] = 1  # rows that fill up a batch: never empty
  positions = np.arange(length, dtype=np.int32) * segments
  return (inputs, segments, positions, predict), true
