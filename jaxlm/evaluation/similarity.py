"""Semantic textual similarity: do cosines rank pairs as people do?

Spearman's correlation over all pairs of all files together, without a
regressor (Gao et al., arXiv:2104.08821, appendix B), beside alignment and
uniformity (Wang and Isola, arXiv:2005.10242).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm import errors
from jaxlm.data import _labelled_rows
from jaxlm.evaluation import embed as embedding
from jaxlm.evaluation import flow, geometry, metrics, records, whitening

COLUMNS = ("sentence1", "sentence2", "score")
# Fitted on the sentences themselves, without their scores.
MAPS = {"whitening": whitening.fit, "flow": flow.fit}


def read(files, columns: Sequence[str | int] = COLUMNS):
  """(first sentences, second sentences, scores float64) of scored pairs.

  Raises:
    UserError: nothing matches, or a row that does not fit, with its line.
  """
  if len(columns) != 3:
    raise errors.UserError(
      f"columns are {', '.join(map(str, columns))}; expected three: first "
      "text, second text, score."
    )
  pair = (columns[0], columns[1], columns[2])
  layout = _labelled_rows.Layout(*pair, True, "", False)
  rows = list(_labelled_rows.read(files, "files", layout))
  scores = [_labelled_rows.score(row) for row in rows]
  return [r.text for r in rows], [r.pair for r in rows], np.array(scores)


def evaluate(
  loaded,
  files,
  *,
  columns: Sequence[str | int] = COLUMNS,
  pooling: str = "",
  length: int = 0,
  map: str = "",
  keep: int = 0,
  positive: float = 4.0,
  out=None,
) -> dict[str, Any]:
  """Scores a model on scored pairs of sentences.

  Args:
    loaded: a `jaxlm.loading.Loaded`, or alike.
    files: TSV, CSV or JSONL files with a header.
    columns: of the two sentences and of their score.
    pooling, length: see `embed.embed`.
    map: a name of `MAPS` that is fitted on the sentences, '' for none.
    keep: directions that whitening keeps, 0 for all.
    positive: pairs of this score and above are positives of `alignment`.
    out: file for one JSON line a pair, or None.

  Returns:
    `spearman`, `pearson`, `count`, `positives` and, of any, `alignment`; and
    `geometry.measures` of all distinct sentences.

  Raises:
    UserError: files or settings that do not fit.
  """
  first, second, scores = read(files, columns)
  texts = list(dict.fromkeys([*first, *second]))
  vectors = embedding.embed(loaded, texts, pooling=pooling, length=length)
  x = mapped(vectors.vectors, map, keep)
  place = {text: row for row, text in enumerate(texts)}
  a, b = (x[[place[t] for t in side]] for side in (first, second))
  cosines = np.sum(geometry.unit(a) * geometry.unit(b), axis=-1)
  found = metrics.regression(scores, cosines)
  close = scores >= positive
  result = {key: found[key] for key in ("spearman", "pearson", "count")}
  result |= {"positives": int(close.sum()), **geometry.measures(x)}
  if close.any():
    result["alignment"] = geometry.alignment(a[close], b[close])
  if out is not None:
    lines = zip(first, second, scores.tolist(), cosines.tolist())
    names = ("first", "second", "score", "cosine")
    records.write_lines(out, [dict(zip(names, line)) for line in lines])
  return result


def mapped(vectors, map: str, keep: int) -> np.ndarray:
  """Vectors [n, d] through a map that is fitted on them.

  Raises:
    UserError: no such map.
  """
  if not map:
    return vectors
  if map not in MAPS:
    raise errors.unknown("There is no map of vectors", map, MAPS)
  more = {"keep": keep} if map == "whitening" else {}
  return MAPS[map](vectors, **more)(vectors)
