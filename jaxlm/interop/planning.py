"""Which class of transformers computes a model, and under which names."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import jaxlm
from jaxlm import errors
from jaxlm.errors import UserError
from jaxlm.interop import description as description_lib
from jaxlm.interop import families, layout, names
from jaxlm.interop.adapting import OF_VOCABULARY
from jaxlm.interop.families import general
from jaxlm.interop.families.base import Found, as_released
from jaxlm.interop.settings import Settings
from jaxlm.layers.embeddings import embeddings as embedding_parts
from jaxlm.models import models

# The head that names the class of a folder with several.
_MAIN = (
  "classify",
  "regress",
  "tag",
  "masked_lm",
  "causal_lm",
  "seq2seq_lm",
  "replaced_token",
  "next_sentence",
)
LABELLED = _MAIN[:3]


class Plan(NamedTuple):
  """What goes into a folder.

  Attributes:
    family: the module of `families`.
    spec: the model without padded rows, its heads named by their roles.
    description: of that spec.
    arrays: its parameters by path, layers one by one.
    tensors: the same by the names of the checkpoint.
    config: config.json.
    why_own: why no class of transformers serves; '' where one does.
    caveat: what the class computes otherwise where rows are padded, or ''.
  """

  family: Any
  spec: dict[str, Any]
  description: dict[str, Any]
  arrays: dict[str, np.ndarray]
  tensors: dict[str, np.ndarray]
  config: dict[str, Any]
  why_own: str
  caveat: str = ""


def plan(
  model: Mapping[str, Any],
  params: Mapping[str, Any],
  tokenizer,
  labels: Sequence[str],
) -> Plan:
  """Takes the first family that computes the same as the model.

  Raises:
    NotExportable: there is none.
    UserError: parameters, labels or vocabulary do not belong to the model.
  """
  part = models.entry(model["kind"]).build
  if hasattr(part, "exported"):  # one tower of several
    model, params = part.exported(model, params)
    part = models.entry(model["kind"]).build
  if reason := getattr(part, "no_export", ""):
    raise description_lib.NotExportable(
      f"This model cannot be exported: {reason}"
    )
  _check_table(model)
  arrays = layout.flat(params, model)
  spec, arrays = _completed(model, arrays, tokenizer)
  _check_arrays(arrays, layout.shapes(spec))
  _check_labels(spec, labels)
  ids = {} if tokenizer is None else dict(tokenizer.special_ids)
  reasons: dict[str, str] = {}
  for family in (*families.STOCK, general):
    if ("towers" in spec) != getattr(family, "TOWERS", False):
      continue
    try:
      made = _with(family, spec, arrays, ids, reasons)
    except (ValueError, LookupError) as error:
      reasons[family.MODEL_TYPE] = str(error)
      continue
    made.config.update(_common(made, labels, tokenizer))
    return made
  reason = reasons.pop(
    general.MODEL_TYPE, "our PyTorch code knows no encoder-decoders"
  )
  raise description_lib.NotExportable(
    f"This model cannot be exported: {reason}. No class of transformers "
    f"computes it either ({nearest(reasons)})."
  )


def nearest(reasons: Mapping[str, str]) -> str:
  """The class that comes nearest, and what it lacks."""
  name = min(reasons, key=lambda n: reasons[n].count("; "))
  found = reasons[name].split("; ")
  more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
  return f"nearest is {name}, but {'; '.join(found[:3])}{more}"


def summary(kind: str, tokenizer) -> str:
  """'first' or 'last': the token that sentence heads read."""
  if tokenizer is not None:
    return "last" if tokenizer.summary_position([0, 0]) else "first"
  return "last" if kind == "decoder" else "first"


def check_vocabulary(tokenizer, vocab_size: int, where: str) -> None:
  """Whether every id of a tokenizer has a row.

  Raises:
    UserError: the table is too small.
  """
  if tokenizer.vocab_size > vocab_size:
    raise UserError(
      f"{where}: the tokenizer has {tokenizer.vocab_size} ids, but the token "
      f"table has {vocab_size} rows. They do not belong together."
    )


def _with(family, spec, arrays, ids, reasons) -> Plan:
  """The plan of one family.

  Raises:
    ValueError: it computes something else, or has no place for a tensor.
    LookupError: it has no name for a parameter.
  """
  if hasattr(family, "adapted"):
    spec, arrays = family.adapted(spec, arrays, ids)
  description = described = description_lib.describe(spec)
  if hasattr(family, "CAVEAT"):
    described = as_released(description)
  config = family.config(described, ids)
  if family is not general:
    _check_same(family, config, described, arrays)
  table = names.present(family.leaves(description), arrays)
  tensors = names.tensors(table, arrays)
  why = nearest(reasons) if family is general else ""
  caveat = "" if described == description else family.CAVEAT
  return Plan(family, spec, description, arrays, tensors, config, why, caveat)


def _completed(model, arrays, tokenizer):
  """Spec and arrays without rows that pad the vocabulary, heads by role."""
  embeddings = dict(model["embeddings"])
  step = embeddings.pop("pad_to_multiple", 1)
  rows = arrays["embeddings/table"].shape[0]
  given = embeddings.pop("vocab_size", None) or model.get("vocab_size")
  vocab = given or (rows if tokenizer is None else tokenizer.vocab_size)
  if -(-vocab // step) * step != rows:
    if given:
      raise UserError(
        f"config.model.vocab_size is {vocab}, but the token table has {rows} "
        "rows: these weights belong to another config."
      )
    vocab = rows
  if tokenizer is not None:
    check_vocabulary(tokenizer, vocab, "The model to export")
  left_out = set(model.get("heads", {})) - set(
    description_lib.exported_heads(model)
  )
  left_out = tuple(f"heads_{name}/" for name in left_out)
  heads = {}
  moved = {p: a for p, a in arrays.items() if not p.startswith(left_out)}
  for role, name in description_lib.roles(model).items():
    heads[role] = dict(model["heads"][name])
    for path in [p for p in moved if p.startswith(f"heads_{name}/")]:
      moved[path.replace(f"heads_{name}/", f"heads_{role}/", 1)] = moved.pop(
        path
      )
    kernel = moved.get(f"heads_{role}/output/kernel")
    if kernel is not None:
      heads[role]["classes"] = kernel.shape[-1]
  for path in OF_VOCABULARY:
    if path in moved:
      moved[path] = moved[path][:vocab]
  changed = {"embeddings": embeddings, "vocab_size": vocab, "heads": heads}
  return {**model, **changed}, moved


def _check_table(model):
  kind = model.get("embeddings", {}).get("kind", "token")
  if not getattr(embedding_parts.entry(kind).build, "keeps_table", True):
    raise description_lib.NotExportable(
      f"This model cannot be exported: embedding '{kind}' keeps no token "
      "table, which every class of transformers reads."
    )


def _check_arrays(arrays, shapes):
  other = "these weights belong to another config."
  for path, shape in shapes.items():
    if path not in arrays:
      raise UserError(
        f"The parameters have no {path}, which config.model asks for: {other}"
        f"{errors.nearest(path, arrays)}"
      )
    if arrays[path].shape != shape:
      raise UserError(
        f"{path} has shape {arrays[path].shape}, but config.model asks for "
        f"{shape}: {other}"
      )
  left = sorted(set(arrays) - set(shapes))
  if left:
    raise UserError(
      f"The parameters have {left[0]} (and {len(left) - 1} more), which "
      f"config.model has not: {other}"
    )


def _check_labels(spec, labels):
  for role in LABELLED:
    classes = spec["heads"].get(role, {}).get("classes")
    if labels and classes is not None and classes != len(labels):
      raise UserError(
        f"{len(labels)} labels are given, but the {role} head has {classes} "
        "classes."
      )


def _check_same(family, config, description, arrays):
  """Reads the config.json back and compares what it describes.

  Raises:
    ValueError: the class computes something else; the text lists it.
  """
  roles = description["heads"]
  lacking = set(roles) - set(family.architectures(roles))
  found = [f"it has no class with a head {role}" for role in sorted(lacking)]
  shapes = {
    leaf.theirs: names.shape(leaf, arrays[leaf.ours].shape)
    for leaf in family.leaves(description)
    if leaf.ours in arrays
  }
  settings = Settings("config.json", {**config, **_classes(family, roles)})
  try:
    spec = family.model_spec(settings, Found(shapes, family.PREFIX))
  except UserError as error:
    raise ValueError(str(error)) from error
  found += description_lib.differences(
    description, description_lib.describe(spec)
  )
  if found:
    raise ValueError("; ".join(found))


def _classes(family, roles) -> dict[str, Any]:
  """architectures and problem_type, which tell heads apart."""
  classes = family.architectures(tuple(roles))
  main = next((role for role in _MAIN if role in classes), None)
  keys = {"architectures": [classes[main] if main else family.BODY]}
  if main == "regress":
    keys["problem_type"] = "regression"
  if main == "classify":
    keys["problem_type"] = "single_label_classification"
  return keys


def _common(made, labels, tokenizer) -> dict[str, Any]:
  """Keys that every config.json has."""
  heads = made.description["heads"]
  keys = _classes(made.family, heads)
  main = next((role for role in LABELLED if role in heads), None)
  if main:
    classes = heads[main]["classes"]
    shown = labels or tuple(f"LABEL_{i}" for i in range(classes))
    keys["id2label"] = {str(i): str(label) for i, label in enumerate(shown)}
    keys["label2id"] = {str(label): i for i, label in enumerate(shown)}
  if made.family is general:
    keys["summary"] = summary(made.description["kind"], tokenizer)
  keys["dtype"] = str(made.arrays["embeddings/table"].dtype)
  return {**keys, "jaxlm_version": jaxlm.__version__}
