"""A trained model from a workdir or a Hugging Face folder, ready to use."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors, files
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.interop import import_folder
from jaxlm.models import assembly, models
from jaxlm.training import checkpoint

MODEL_FILE = "model.json"


class Loaded(NamedTuple):
  """A model and what is needed to feed it.

  Attributes:
    model: the Linen module.
    variables: {"params": ...}, numpy or jax arrays.
    spec: the whole model spec, sizes filled in.
    tokenizer: or None where the source has none.
    labels: names of classes or tags, in the order of the logits.
    task: 'classification', 'regression', 'tagging' or None.
    source: where it came from.
    facts: what the source says of its training.
  """

  model: nn.Module
  variables: Mapping[str, Any]
  spec: dict[str, Any]
  tokenizer: Tokenizer | None
  labels: tuple[str, ...]
  task: str | None
  source: str
  facts: dict[str, Any]


def describe(workdir, spec, *, labels=(), task=None, facts=None) -> None:
  """Writes the file by which `load` knows a workdir's model."""
  value = dict(model=spec, labels=labels, task=task, facts=facts or {})
  files.write_json(pathlib.Path(workdir) / MODEL_FILE, value)


def load(
  path,
  *,
  step: int | None = None,
  compute_dtype=jnp.float32,
  whole: bool = False,
) -> Loaded:
  """Loads a workdir of `jaxlm train` or `jaxlm import`, or an HF folder.

  Of a model that pre-training alone needs whole (two towers), what is kept
  afterwards is loaded, such as ELECTRA's discriminator.

  Args:
    path: the folder; also a workdir's checkpoints/STEP.
    step: the checkpoint to read; the newest where None.
    compute_dtype: dtype of activations.
    whole: the model as it was trained, to train it on.

  Raises:
    UserError: no such folder, nothing in it to load, or damaged files.
  """
  folder = pathlib.Path(path)
  if folder.parent.name == "checkpoints" and folder.name.isdigit():
    folder, step = folder.parent.parent, int(folder.name)
  elif folder.name == "checkpoints":
    folder = folder.parent
  if not folder.is_dir():
    siblings = folder.parent.iterdir() if folder.parent.is_dir() else ()
    hint = errors.nearest(folder.name, (p.name for p in siblings))
    raise errors.UserError(f"There is no folder {folder}.{hint}")
  if (folder / MODEL_FILE).is_file():
    return _from_workdir(folder, step, compute_dtype, whole)
  if (folder / "config.json").is_file():
    return _from_hugging_face(folder, compute_dtype)
  raise errors.UserError(
    f"{folder} holds no model: neither {MODEL_FILE} (a workdir of jaxlm) nor "
    "config.json (a Hugging Face folder)."
  )


def _from_workdir(folder, step, dtype, whole):
  try:
    about = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
  except json.JSONDecodeError as error:
    where = folder / MODEL_FILE
    raise errors.UserError(f"{where} is damaged: {error}") from None
  spec = tuples(about["model"])
  tokenizer = None
  if (folder / "tokenizer").is_dir():
    tokenizer = Tokenizer.load(folder / "tokenizer")
    check_vocabulary(tokenizer, spec, str(folder))
  params, _ = checkpoint.load_params(folder, step)
  part = models.entry(spec["kind"]).build
  if hasattr(part, "exported") and not whole:
    spec, params = part.exported(spec, params)
  return Loaded(
    model=assembly.build(spec, dtype=dtype),
    variables={"params": params},
    spec=spec,
    tokenizer=tokenizer,
    labels=tuple(about["labels"]),
    task=about["task"],
    source=str(folder),
    facts=about["facts"],
  )


def _from_hugging_face(folder, dtype):
  imported = import_folder(folder)
  if imported.tokenizer is not None:
    check_vocabulary(imported.tokenizer, imported.model, str(folder))
  return Loaded(
    model=assembly.build(imported.model, dtype=dtype),
    variables={"params": imported.params},
    spec=imported.model,
    tokenizer=imported.tokenizer,
    labels=tuple(imported.labels),
    task=task_of(imported.model),
    source=str(folder),
    facts={},
  )


def task_of(spec) -> str | None:
  """The task that a model's heads serve, None for language models."""
  tasks = dict(classify="classification", regress="regression", tag="tagging")
  kinds = [head["kind"] for head in spec["heads"].values()]
  if "masked_lm" in kinds:  # BERT's next-sentence head is no task of a user
    return None
  return next((tasks[kind] for kind in kinds if kind in tasks), None)


def check_vocabulary(tokenizer: Tokenizer, spec, where: str) -> None:
  """Raises UserError if the tokenizer has ids that the model has not."""
  if tokenizer.vocab_size > spec["vocab_size"]:
    raise errors.UserError(
      f"{where}: the tokenizer has {tokenizer.vocab_size} tokens but the model "
      f"only {spec['vocab_size']}; take the tokenizer that it was trained with."
    )


def tuples(value):
  """JSON's lists as the tuples that specs hold."""
  if isinstance(value, dict):
    return {k: tuples(v) for k, v in value.items()}
  if isinstance(value, list):
    return tuple(tuples(v) for v in value)
  return value
