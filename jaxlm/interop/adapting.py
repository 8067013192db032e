"""Parameters of one spec for another that differs in arrangement or heads."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlm.errors import UserError
from jaxlm.interop import layout
from jaxlm.models import replacement

# Parameters with a row a token.
OF_VOCABULARY = (
  "embeddings/table",
  "heads_masked_lm/output_table",
  "heads_masked_lm/output_bias",
)


def adapt(
  params: Mapping[str, Any],
  source: Mapping[str, Any],
  target: Mapping[str, Any],
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """Fits imported parameters into the model of a config.

  Stacks are scanned or unrolled as `target` says, rows of the token table
  added (zeros) or cut where it is padded otherwise; heads that the target
  lacks are dropped, those with other classes are drawn anew, and so are
  modules that a part names in `drawn_anew`, having taken another's place.

  Args:
    params: for `source`.
    source: a spec with `vocab_size` and heads' classes.
    target: the same kind of spec.

  Returns:
    (params for `target`, paths of those that the source does not have and
    which the caller draws anew; they are absent from the params. Layers are
    named as in a sequential stack).

  Raises:
    UserError: an array has another shape than the target needs.
  """
  held = layout.flat(params, source)
  wanted = layout.shapes(target)
  arrays = {}
  for path, shape in wanted.items():
    if path not in held:
      continue
    array = held[path]
    if path in OF_VOCABULARY:
      array = _rows(array, shape[0], source["vocab_size"], target["vocab_size"])
    if array.shape != shape and path.startswith("heads_"):
      continue  # another number of classes
    if array.shape != shape:
      raise UserError(
        f"{path} has shape {array.shape} in the weights to start from, but "
        f"this config needs {shape}. Give config.model the sizes of those "
        "weights."
      )
    arrays[path] = array
  fresh = tuple(path for path in wanted if path not in arrays)
  modules = replacement.drawn_anew(target)
  body = [
    path
    for path in fresh
    if not path.startswith("heads_")
    and not any(f"/{module}/" in path for module in modules)
  ]
  if body:
    raise UserError(
      f"The weights to start from have no {body[0]} (and {len(body) - 1} more "
      "of this config's model): it is another architecture."
    )
  return layout.tree(arrays, target), fresh


def _rows(array, rows, source_vocab, target_vocab) -> np.ndarray:
  if source_vocab != target_vocab:
    raise UserError(
      f"The weights to start from have a vocabulary of {source_vocab}, this "
      f"config one of {target_vocab}: take the tokenizer of those weights "
      "(config.tokenizer.path)."
    )
  made = np.zeros((rows, *array.shape[1:]), array.dtype)
  made[:source_vocab] = array[:source_vocab]
  return made
