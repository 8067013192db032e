"""How a folder embeds sentences, as sentence-transformers keeps it.

Beside the model's own files stand `modules.json`, which lists what runs one
after the other, `1_Pooling` and, where a projection is kept, `2_Dense`. Names
of classes are those that every version of it reads.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np
import safetensors.numpy

from jaxlm import files
from jaxlm.interop.checkpoint import read_json

MODULES = "modules.json"
_MODELS = "sentence_transformers.models"
_POOLING, _DENSE = "1_Pooling", "2_Dense"
_TANH = "torch.nn.modules.activation.Tanh"
# Flag of a pooling's config -> ours.
_MODES = {
  "pooling_mode_cls_token": "cls",
  "pooling_mode_lasttoken": "cls",  # where a decoder's row is read
  "pooling_mode_mean_tokens": "mean",
}


def head_of(spec: Mapping[str, Any]) -> str:
  """The name of the head that embeds, '' where a model has none."""
  heads = spec.get("heads", {}).items()
  return next((name for name, h in heads if h["kind"] == "embed"), "")


def write(folder, spec, params, *, last: bool, longest: int | None) -> None:
  """Writes the files of a model's head `embed`; nothing where it has none.

  Args:
    folder: of the model's own files.
    spec: the model's.
    params: its parameters.
    last: whether sentences are read at their last token.
    longest: the longest input, or None.
  """
  name = head_of(spec)
  if not name:
    return
  head, folder = spec["heads"][name], pathlib.Path(folder)
  kept = head.get("projection", "none") == "kept"
  files.write_json(folder / MODULES, _modules(kept))
  files.write_json(
    folder / "config_sentence_transformers.json",
    {
      "prompts": {},
      "default_prompt_name": None,
      "similarity_fn_name": "cosine",
    },
  )
  files.write_json(
    folder / "sentence_bert_config.json",
    {"max_seq_length": longest, "do_lower_case": False},
  )
  flag = "pooling_mode_mean_tokens"
  if head.get("pooling", "cls") == "cls":
    flag = "pooling_mode_lasttoken" if last else "pooling_mode_cls_token"
  files.write_json(
    folder / _POOLING / "config.json",
    {
      "word_embedding_dimension": spec["width"],
      **{mode: mode == flag for mode in _MODES},
    },
  )
  if kept:
    _write_dense(folder / _DENSE, nn.unbox(params)[f"heads_{name}"])


def _modules(kept: bool) -> list[dict[str, Any]]:
  parts = [("", "Transformer"), (_POOLING, "Pooling")]
  parts += [(_DENSE, "Dense")] * kept
  return [
    {"idx": i, "name": str(i), "path": path, "type": f"{_MODELS}.{kind}"}
    for i, (path, kind) in enumerate(parts)
  ]


def _write_dense(folder, params) -> None:
  kernel, bias = (
    np.asarray(params["projection"][k], np.float32) for k in ("kernel", "bias")
  )
  files.write_json(
    folder / "config.json",
    {
      "in_features": kernel.shape[0],
      "out_features": kernel.shape[1],
      "bias": True,
      "activation_function": _TANH,
    },
  )
  tensors = {"linear.weight": np.ascontiguousarray(kernel.T)}
  tensors["linear.bias"] = bias
  with files.replacing(folder / "model.safetensors", "wb") as file:
    file.write(safetensors.numpy.save(tensors, metadata={"format": "pt"}))


def read(folder) -> tuple[dict[str, Any], dict[str, Any]] | None:
  """(spec, parameters) of the head that a folder describes.

  None where it describes none, or one that no head of ours computes.
  """
  folder = pathlib.Path(folder)
  if not (folder / MODULES).is_file():
    return None
  modules = read_json(folder / MODULES, list)
  kinds = {module["type"].split(".")[-1]: module for module in modules}
  kinds.pop("Normalize", None)  # cosines do not see it
  if not {"Transformer", "Pooling"} <= set(kinds) or set(kinds) - {
    "Transformer",
    "Pooling",
    "Dense",
  }:
    return None
  pooling = _pooling(folder / kinds["Pooling"]["path"])
  if pooling is None:
    return None
  head = dict(kind="embed", pooling=pooling)
  if "Dense" not in kinds:
    return head, {}
  params = _dense(folder / kinds["Dense"]["path"])
  return params and ({**head, "projection": "kept"}, params)


def _pooling(folder) -> str | None:
  config = read_json(folder / "config.json")
  modes = [mode for mode in config if mode.startswith("pooling_mode_")]
  on = [_MODES.get(mode) for mode in modes if config[mode]]
  named = config.get("pooling_mode")
  if named:
    names = {"cls": "cls", "lasttoken": "cls", "mean": "mean"}
    on = [names.get(named) if isinstance(named, str) else None]
  return on[0] if len(on) == 1 else None


def _dense(folder) -> dict[str, Any] | None:
  config = read_json(folder / "config.json")
  file = folder / "model.safetensors"
  square = config.get("in_features") == config.get("out_features")
  if not (square and config.get("bias") and file.is_file()):
    return None
  if config.get("activation_function") != _TANH or config.get("use_residual"):
    return None
  tensors = safetensors.numpy.load_file(file)
  kernel = np.ascontiguousarray(tensors["linear.weight"].T)
  return {"projection": {"kernel": kernel, "bias": tensors["linear.bias"]}}
