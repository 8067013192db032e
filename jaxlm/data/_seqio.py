"""The one gate to seqio: TensorFlow quiet and on the CPU, its needs met.

Importing it takes some 15 s, so it is imported inside functions, and by
modules whose name starts with "_".
"""

import contextlib
import importlib.util
import sys
import types

from jaxlm import errors


def distance(a, b) -> int:
  """Levenshtein distance of two sequences."""
  row = list(range(len(b) + 1))
  for i, left in enumerate(a, 1):
    corner, row[0] = row[0], i
    for j, right in enumerate(b, 1):
      best = min(row[j] + 1, row[j - 1] + 1, corner + (left != right))
      corner, row[j] = row[j], best
  return row[-1]


@contextlib.contextmanager
def _editdistance():
  """Stands in for `editdistance` while seqio is imported.

  seqio uses it in one error message, and it has no wheel for Python 3.13.
  """
  if importlib.util.find_spec("editdistance"):
    yield
    return
  stand_in = types.ModuleType("editdistance")
  stand_in.eval = distance
  sys.modules["editdistance"] = stand_in
  try:
    yield
  finally:
    del sys.modules["editdistance"]


try:
  from jaxlm.data._tensorflow import silent, tf

  with _editdistance(), silent():
    import seqio
except ImportError as error:
  raise errors.UserError(
    f"Feeding data needs seqio and TensorFlow, which cannot be imported here "
    f"({error}). Install them with: pip install -r requirements.txt"
  ) from error

__all__ = ["seqio", "tf"]
