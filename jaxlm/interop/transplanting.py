"""A trained model under a new vocabulary: its rows, moved.

Fast Vocabulary Transfer (Gee et al., EMNLP 2022 industry, arXiv:2402.09977): a
piece that both vocabularies have keeps its row, a new one starts at the mean
of the rows of the pieces that the old vocabulary cuts it into. What the old
one cannot spell at all, as English vocabularies Devanagari, is drawn around
the mean row with the spread of the rows, as WECHSEL (Minixhofer et al.,
arXiv:2112.06598) does. All parameters with an axis over the vocabulary are
moved so: tables, outputs of their own, biases.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import errors, paths
from jaxlm.data.shared_pieces import Spelling, spell
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.interop import layout
from jaxlm.models import assembly

_AXIS = "vocab"  # logical name of the axis
_SEED = 0


def transplant(
  params: Mapping[str, Any],
  spec: Mapping[str, Any],
  old: Tokenizer,
  new: Tokenizer,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
  """Moves a model to a new vocabulary; the same arguments, the same numbers.

  Args:
    params: as `spec` keeps them.
    spec: the whole model spec.
    old: the vocabulary that the model knows.
    new: the one that it will.

  Returns:
    (params, spec with the new `vocab_size`, facts: how many rows were copied,
    averaged and drawn, and which arrays were moved).

  Raises:
    UserError: a model without rows of a vocabulary.
  """
  made = _resized(spec, new)
  axes = vocabulary_axes(spec)
  if not axes:
    raise errors.UserError(
      "The model to start from has no table of tokens, so its vocabulary "
      "cannot be changed: take its own (leave config.tokenizer empty)."
    )
  spelled = spell(new, old)
  shapes = layout.shapes(made)
  arrays = layout.flat(params, spec)
  for path, axis in axes.items():
    rows = np.moveaxis(arrays[path], axis, 0)
    count = shapes[path][axis]
    moved = _move(rows, spec["vocab_size"], spelled, count, path)
    arrays[path] = np.moveaxis(moved, 0, axis)
  return layout.tree(arrays, made), made, _facts(spelled, old, new, axes)


def vocabulary_axes(spec: Mapping[str, Any]) -> dict[str, int]:
  """{path: axis} of the parameters that have a row a token."""
  model = assembly.build(spec)
  batch = {"inputs": jnp.zeros((1, 2), jnp.int32)}
  boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))["params"]
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
  leaves = jax.tree_util.tree_flatten_with_path(boxed, is_leaf=is_box)[0]
  return {
    paths.name(path): leaf.names.index(_AXIS)
    for path, leaf in leaves
    if is_box(leaf) and _AXIS in leaf.names
  }


def _resized(spec, new) -> dict[str, Any]:
  """The spec for the new vocabulary, spelled texts of tokens included."""
  made = {**spec, "vocab_size": new.vocab_size}
  if "vocabulary" in spec.get("embeddings", {}):
    texts = {"vocabulary": tuple(new.pieces)}
    made["embeddings"] = {**spec["embeddings"], **texts}
  if "towers" in spec:
    made["towers"] = {k: _resized(v, new) for k, v in spec["towers"].items()}
  return made


def _move(rows, held: int, spelled: Sequence[Spelling], count: int, path):
  """Rows [count, ...] of the new vocabulary; `held` of the old were real.

  What stands behind the rows of tokens (hashed n-grams) stays, if as many
  rows are left for it; padding is 0.
  """
  made = np.zeros((count, *rows.shape[1:]), rows.dtype)
  tail = rows[held:]
  if count - len(spelled) == len(tail):
    made[len(spelled) :] = tail
  real = rows[:held].astype(np.float64)
  mean, spread = real.mean(axis=0), real.std(axis=0)
  if rows.ndim == 1:
    spread = np.zeros_like(spread)  # of a bias the mean says enough
  random = np.random.default_rng(
    [_SEED, *hashlib.sha256(path.encode()).digest()]
  )
  for index, (ids, _) in enumerate(spelled):
    if ids:
      made[index] = real[list(ids)].mean(axis=0)
    else:
      made[index] = mean + spread * random.standard_normal(mean.shape)
  return made


def _facts(spelled, old, new, axes) -> dict[str, Any]:
  averaged = [s for s in spelled if s.ids and not s.shared]
  return {
    "from_tokenizer": old.sha256,
    "to_tokenizer": new.sha256,
    "rows": len(spelled),
    "copied": sum(s.shared for s in spelled),
    "averaged": len(averaged),
    "pieces_averaged": sum(len(s.ids) for s in averaged)
    / max(len(averaged), 1),
    "drawn": sum(not s.ids for s in spelled),
    "parameters": sorted(axes),
  }
