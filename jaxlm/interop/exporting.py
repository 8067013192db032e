"""A trained model as a Hugging Face folder, compared before it is kept."""

import importlib.resources
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy

from jaxlm import files
from jaxlm.errors import UserError
from jaxlm.interop import card as card_lib
from jaxlm.interop import (
  comparing,
  families,
  layout,
  planning,
  sentence_encoder,
)
from jaxlm.interop import description as description_lib
from jaxlm.interop.checkpoint import read_json
from jaxlm.interop.families import general
from jaxlm.interop.importing import import_folder

MANIFEST = "jaxlm.json"
# Of the largest output; more is a bug, not rounding.
_TOLERANCE = 1e-3


def export_folder(
  out,
  *,
  model: Mapping[str, Any],
  params: Mapping[str, Any],
  tokenizer=None,
  labels: Sequence[str] = (),
  card: Mapping[str, Any] | None = None,
  max_length: int | None = None,
) -> dict[str, Any]:
  """Writes config.json, model.safetensors, the tokenizer and README.md.

  A model that a class of transformers computes goes to that class (BERT,
  RoBERTa, GPT-2, ModernBERT); any other takes its PyTorch code with it. One
  with a head `embed` is a folder of sentence-transformers, too. The folder is
  then read again by jaxlm, and by transformers where that is installed, and
  the outputs are compared on a fixed random batch.

  Args:
    out: the folder; it must not exist, be empty, or be an unchanged export.
    model: `config.model`; `vocab_size` and heads' classes are told by the
      tokenizer and the parameters where it leaves them out.
    params: its parameters, scanned or not.
    tokenizer: a `jaxlm.data.tokenizer.Tokenizer`, or None.
    labels: names of the classes of the classify, regress or tag head.
    card: training facts and numbers for README.md.
    max_length: the longest input, where the positions set no limit.

  Returns:
    Facts: `folder`, `library` (where it is sentence-transformers),
    `architecture`, `model_type`, `why_own_code`, `caveat` (what the class
    computes otherwise where rows are padded), `parameters`, `files` (name ->
    sha256), `differences` (program -> output -> largest
    absolute difference) and `largest_difference`.

  Raises:
    UserError: the folder holds something else, or a part of the model cannot
      be exported; the message says which and why.
    RuntimeError: the outputs of the written folder differ (a bug).
  """
  out = pathlib.Path(out).expanduser()
  _check_free(out)
  plan = planning.plan(model, params, tokenizer, labels)
  out.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(
    tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent)
  )
  try:
    longest = _write(temporary, plan, tokenizer, max_length)
    if tokenizer is not None:
      sentence_encoder.write(
        temporary,
        model,
        params,
        last=planning.summary(model["kind"], tokenizer) == "last",
        longest=longest,
      )
    facts = {"folder": str(out), **_compared(temporary, plan, tokenizer)}
    if (temporary / sentence_encoder.MODULES).is_file():
      facts["library"] = "sentence-transformers"
    with files.replacing(temporary / "README.md") as file:
      file.write(card_lib.text(plan, facts, labels, card or {}))
    facts["files"] = _digests(temporary)
    files.write_json(temporary / MANIFEST, facts)
    _place(temporary, out)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  return facts


def _check_free(out):
  if out.exists() and not out.is_dir():
    raise UserError(f"'{out}' is a file; an export is a folder.")
  if not out.is_dir() or not any(out.iterdir()):
    return
  if not (out / MANIFEST).is_file():
    raise UserError(
      f"'{out}' is not empty and was not written by an export; it is not "
      "overwritten. Give another folder."
    )
  known = read_json(out / MANIFEST).get("files", {})
  for path in sorted(p for p in out.rglob("*") if p.is_file()):
    name = path.relative_to(out).as_posix()
    if name != MANIFEST and known.get(name) != files.sha256(path):
      raise UserError(
        f"'{path}' was added or changed since '{out}' was exported; it is not "
        "overwritten. Give another folder, or move that file."
      )


def _write(folder, plan, tokenizer, max_length):
  """The model and its tokenizer; the longest input, or None."""
  longest = description_lib.longest(plan.description) or max_length
  config = dict(plan.config)
  if longest and plan.family in (general, families.modernbert):
    config["max_position_embeddings"] = longest
  files.write_json(folder / "config.json", config)
  data = safetensors.numpy.save(plan.tensors, metadata={"format": "pt"})
  with files.replacing(folder / "model.safetensors", "wb") as file:
    file.write(data)
  if tokenizer is not None:
    tokenizer.save_hf(folder, model_max_length=longest)
    _name_inputs(folder, plan)
  if plan.family is general:
    code = importlib.resources.files("jaxlm.interop") / "exported"
    for name in general.CODE:
      with files.replacing(folder / name) as file:
        file.write((code / name).read_text(encoding="utf-8"))
  return longest


def _name_inputs(folder, plan):
  """Tells the tokenizer whether the model reads sentence types.

  GPT-2 would add them up as tokens, ModernBERT does not know them.
  """
  path = folder / "tokenizer_config.json"
  kinds = ["token_type_ids"] * (plan.description["embeddings"]["types"] > 1)
  inputs = ["input_ids", *kinds, "attention_mask"]
  files.write_json(path, {**read_json(path), "model_input_names": inputs})


def _compared(folder, plan, tokenizer) -> dict[str, Any]:
  """The facts of an export; the folder is read again and run."""
  pad = plan.config.get("pad_token_id")
  batch = comparing.random_batch(
    plan.description,
    summary=planning.summary(plan.description["kind"], tokenizer),
    pad_id=0 if pad is None else pad,
    padded=not plan.caveat,
  )
  # Scanned: a deep model then compiles as fast as a shallow one.
  spec = layout.quick(plan.spec)
  before = comparing.outputs(spec, layout.tree(plan.arrays, spec), batch)
  dtype = plan.arrays["embeddings/table"].dtype
  again = import_folder(folder, dtype=dtype)
  after = comparing.outputs(again.model, again.params, batch)
  found = {"jaxlm": comparing.differences(before, after)}
  if comparing.transformers_installed():
    classes = {**general.AUTO, **getattr(plan.family, "AUTO", {})}
    roles = {role: classes[role] for role in plan.description["heads"]}
    theirs = comparing.transformers_outputs(folder, roles, batch)
    found["transformers"] = comparing.differences(before, theirs)
  largest = max(max(each.values()) for each in found.values())
  size = max(float(np.max(np.abs(value))) for value in before.values())
  if not largest <= _TOLERANCE * max(size, 1.0):
    raise RuntimeError(
      f"The exported model computes something else: {found}. Nothing is kept."
    )
  return {
    "architecture": plan.config["architectures"][0],
    "model_type": plan.family.MODEL_TYPE,
    "why_own_code": plan.why_own,
    "caveat": plan.caveat,
    "parameters": sum(array.size for array in plan.arrays.values()),
    "differences": found,
    "largest_difference": largest,
  }


def _digests(folder) -> dict[str, str]:
  return {
    path.relative_to(folder).as_posix(): files.sha256(path)
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def _place(temporary, out):
  """Puts the finished folder in its place; what was there is an export."""
  os.chmod(temporary, 0o755)  # mkdtemp makes it private
  if not out.is_dir():
    os.replace(temporary, out)
    return
  old = pathlib.Path(
    tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent)
  )
  os.replace(out, old)
  os.replace(temporary, out)
  shutil.rmtree(old)
