"""Words told by their vectors: what continuous outputs are judged by.

There are no probabilities and so no perplexity (Li et al., TACL 2019): among
the vectors of a vocabulary, how near is the right one to a prediction?
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import context, errors
from jaxlm.evaluation import _model

HEAD = "continuous"
_SCORES = 1 << 24  # cosines that are held at a time: 64 MiB


def measure(
  model,
  variables,
  batches: Iterable[tuple[int, Mapping]],
  table,
  ks: Sequence[int] = (1, 5, 10),
) -> dict[str, float]:
  """Means over the words to predict of all batches.

  Args:
    model: a Linen module with the head `continuous`.
    variables: {"params": ...}.
    batches: (first row, batch), as `predict.epoch` gives.
    table: float32 [candidates, width], unit vectors by id; zeros are no
      candidates. A word beyond it is among no nearest ones.
    ks: how many nearest candidates count.

  Returns:
    `cosine` with the word's own vector, `accuracy@k`, how often the word is
    among the k nearest (candidates of the same vector share a place),
    `mean_reciprocal_rank`, `count` of words and `candidates`.

  Raises:
    UserError: no such head, no batch, or vectors of another width.
  """
  _model.require_head(model, HEAD, "An evaluation by neighbours")
  head = model.heads[HEAD]
  if head.vector_width != table.shape[1]:
    raise errors.UserError(
      f"The model predicts vectors of {head.vector_width} numbers and the "
      f"candidates have {table.shape[1]}: take the vectors that it learned."
    )
  static = _model.Static(model)
  variables, table = _model.on_device(variables), jnp.asarray(table)
  ranks, cosines = [], []
  for _, batch in batches:
    found = _model.apply_head(static, HEAD, variables, batch)
    labels, weights = context.neighbours(batch, head.directions)
    kept = np.asarray(weights).reshape(-1) > 0
    rows = np.asarray(found).reshape(-1, table.shape[1])[kept]
    near, rank = ranked(rows, np.asarray(labels).reshape(-1)[kept], table)
    cosines.append(near)
    ranks.append(rank)
  if not ranks or not sum(map(len, ranks)):
    raise errors.UserError("The data have no word to predict.")
  return summary(np.concatenate(cosines), np.concatenate(ranks), ks) | {
    "candidates": int(np.sum(np.any(np.asarray(table) != 0, axis=1)))
  }


def ranked(rows, labels, table) -> tuple[np.ndarray, np.ndarray]:
  """Cosine with the right vector, and how many candidates are nearer.

  Args:
    rows: predictions [n, width].
    labels: ids [n].
    table: unit vectors [candidates, width].

  Returns:
    float32 [n], NaN for words beyond the table, and int32 [n], for those the
    number of candidates.
  """
  step = max(1, min(len(rows), _SCORES // len(table)))
  near, rank = [], []
  for start in range(0, len(rows), step):
    part, ids = rows[start : start + step], labels[start : start + step]
    short = step - len(part)
    part = np.pad(part, ((0, short), (0, 0)))
    ids = np.pad(ids, (0, short))
    a, b = _ranked(part, np.minimum(ids, len(table) - 1), table)
    beyond = ids >= len(table)
    near.append(np.where(beyond, np.nan, a)[: step - short])
    rank.append(np.where(beyond, len(table), b)[: step - short])
  return np.concatenate(near), np.concatenate(rank)


@jax.jit
def _ranked(rows, labels, table):
  norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
  scores = rows / jnp.maximum(norms, 1e-12) @ table.T
  own = jnp.take_along_axis(scores, labels[:, None], axis=1)
  real = jnp.any(table != 0.0, axis=1)[None]
  return own[:, 0], jnp.sum((scores > own) & real, axis=1)


def summary(cosines, ranks, ks) -> dict[str, float]:
  """The means that `measure` returns, of ranks from 0."""
  count = len(ranks)
  made = {"cosine": float(np.nanmean(cosines)), "count": count}
  for k in ks:
    share = float(np.mean(ranks < k))
    made[f"accuracy@{k}"] = share
    made[f"accuracy@{k}_error"] = math.sqrt(share * (1 - share) / count)
  reciprocal = np.where(np.isnan(cosines), 0.0, 1.0 / (1.0 + ranks))
  return made | {"mean_reciprocal_rank": float(np.mean(reciprocal))}
