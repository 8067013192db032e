"""A Hugging Face folder as a spec, parameters, tokenizer and labels."""

import pathlib
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlm import errors
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.errors import UserError
from jaxlm.interop import description as description_lib
from jaxlm.interop import families, layout, names, planning, sentence_encoder
from jaxlm.interop.checkpoint import Checkpoint, read_json
from jaxlm.interop.families.base import Found, buffer
from jaxlm.interop.settings import Settings

_TOKENIZER_FILES = (
  "tokenizer.json",
  "vocab.txt",
  "vocab.json",
  "spiece.model",
  "sentencepiece.bpe.model",
  "tokenizer.model",
)


class Imported(NamedTuple):
  """What a folder holds.

  Attributes:
    model: `config.model`, with `vocab_size` and the heads of the file.
    params: nested dict of numpy arrays for this spec.
    tokenizer: None where the folder has no vocabulary.
    labels: names of the classes in order; () where they have none.
    ignored: tensors that no part of the model reads.
  """

  model: dict[str, Any]
  params: dict[str, Any]
  tokenizer: Tokenizer | None
  labels: tuple[str, ...]
  ignored: tuple[str, ...] = ()


def import_folder(path, *, dtype=np.float32) -> Imported:
  """Reads a folder of `transformers`, or one that `export_folder` wrote.

  Known model types: those of `families.STOCK`, and jaxlm (ours). Where the
  folder is one of sentence-transformers that pools as a head `embed` does, the
  model has that head.

  Args:
    path: the folder, with config.json and model.safetensors (or shards).
    dtype: of the parameters.

  Raises:
    UserError: a file is missing or damaged; a model type, tensor, shape or
      setting that cannot be read; a vocabulary larger than the token table.
  """
  folder = pathlib.Path(path).expanduser()
  settings = Settings(folder / "config.json", read_json(folder / "config.json"))
  family = _family(settings)
  checkpoint = Checkpoint(folder)
  found = Found(checkpoint.shapes, family.PREFIX)
  spec = family.model_spec(settings, found)
  arrays, used = _arrays(family, spec, checkpoint, found)
  used |= _tied(family, checkpoint, found, arrays["embeddings/table"], used)
  ignored = sorted(
    name for name in set(checkpoint.shapes) - used if not buffer(family, name)
  )
  params = layout.tree({k: v.astype(dtype) for k, v in arrays.items()}, spec)
  if found_head := sentence_encoder.read(folder):
    spec, params = _with_head(spec, params, *found_head, dtype)
  tokenizer = _tokenizer(folder, spec["vocab_size"])
  return Imported(spec, params, tokenizer, _labels(settings), tuple(ignored))


def _with_head(spec, params, head, own, dtype):
  """Spec and parameters of a model that embeds, too."""
  own = jax.tree.map(lambda array: array.astype(dtype), own)
  spec = {**spec, "heads": {**spec["heads"], "embed": head}}
  return spec, {**params, **({"heads_embed": own} if own else {})}


def _family(settings):
  kind = settings.get("model_type")
  if kind not in families.ALL:
    raise errors.unknown(
      f"'{settings.path}': jaxlm reads no model_type", kind, families.ALL
    )
  return families.ALL[kind]


def _arrays(family, spec, checkpoint, found):
  """Our arrays by path, and the names of the tensors that were read."""
  shapes = layout.shapes(spec)
  table = names.present(family.leaves(description_lib.describe(spec)), shapes)
  arrays, used = {}, set()
  tensors: dict[str, np.ndarray] = {}
  for leaf in table:
    if leaf.zero:
      arrays[leaf.ours] = np.zeros(shapes[leaf.ours], np.float32)
      continue
    actual = _actual(leaf, checkpoint, found)
    _check_shape(leaf, actual, checkpoint, shapes[leaf.ours])
    if actual not in tensors:
      tensors = {actual: checkpoint.read(actual)}  # one fused tensor at a time
    arrays[leaf.ours] = names.ours(leaf, tensors[actual])
    used.add(actual)
  return arrays, used


def _actual(leaf, checkpoint, found) -> str:
  actual = found.actual(leaf.theirs, *leaf.aliases)
  if actual is None:
    raise UserError(
      f"'{checkpoint.weights}' has no tensor '{leaf.theirs}', which "
      f"config.json asks for (jaxlm's {leaf.ours})."
      f"{errors.nearest(leaf.theirs, checkpoint.shapes)}"
    )
  return actual


def _check_shape(leaf, actual, checkpoint, shape):
  expected = names.shape(leaf, shape)
  if checkpoint.shapes[actual] != expected:
    raise UserError(
      f"'{checkpoint.where(actual)}': tensor '{actual}' has shape "
      f"{checkpoint.shapes[actual]}, but config.json describes {expected}."
    )


def _tied(family, checkpoint, found, table, read) -> set[str]:
  """The tensors that repeat the token table, but for those that were read.

  Raises:
    UserError: one of them has weights of its own.
  """
  used = set()
  for name in family.TIED:
    actual = found.actual(name)
    if actual is None or actual in read:
      continue
    if not np.array_equal(checkpoint.read(actual), table):
      raise UserError(
        f"'{checkpoint.where(actual)}': '{actual}' is not the token table; "
        "jaxlm ties the output to the token table and cannot express another."
      )
    used.add(actual)
  return used


def _tokenizer(folder, vocab_size) -> Tokenizer | None:
  if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
    return None
  made = Tokenizer.load(folder)
  planning.check_vocabulary(made, vocab_size, f"'{folder}'")
  return made


def _labels(settings) -> tuple[str, ...]:
  given = settings.get("id2label") or {}
  if sorted(given, key=int) != [str(i) for i in range(len(given))]:
    raise UserError(
      f"'{settings.path}': id2label has the keys {', '.join(given)}; expected "
      "0, 1, ..."
    )
  labels = tuple(given[str(i)] for i in range(len(given)))
  if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
    return ()  # transformers' fillers
  return labels
