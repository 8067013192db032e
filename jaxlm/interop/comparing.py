"""The outputs of one model by two programs, on one fixed random batch."""

import contextlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxlm import paths
from jaxlm.interop import description as description_lib
from jaxlm.models import assembly

ROWS, LENGTH, SEED = 3, 24, 0


def random_batch(
  description: Mapping[str, Any],
  *,
  summary: str = "first",
  pad_id: int = 0,
  padded: bool = True,
) -> dict[str, np.ndarray]:
  """Rows of random tokens, the last of them padded on the right.

  Args:
    description: of the model.
    summary: 'first' or 'last', the token that sentence heads read.
    pad_id: never drawn as a token; it fills the padding.
    padded: whether there is any padding.

  Returns:
    A batch: inputs, segments, positions, types [rows, length], cls_positions
    [rows, 1]; where a decoder reads another text also `decoder_inputs`,
    `decoder_segments` and `decoder_positions`, some tokens shorter.
  """
  draw = np.random.default_rng(SEED)
  length = min(LENGTH, description_lib.longest(description) or LENGTH)
  tokens = draw.integers(0, description["vocab_size"] - 1, (ROWS, length))
  tokens = tokens + (tokens >= pad_id)  # all ids but the padding's
  last = max(length * 2 // 3, 1) if padded else length
  lengths = np.array([length] * (ROWS - 1) + [last])
  real = np.arange(length)[None] < lengths[:, None]
  types = np.zeros((ROWS, length), np.int32)
  if description["embeddings"]["types"] > 1:
    types = (np.arange(length)[None] >= lengths[:, None] // 2).astype(np.int32)
  last = lengths[:, None] - 1
  made = {
    "inputs": np.where(real, tokens, pad_id).astype(np.int32),
    "segments": real.astype(np.int32),
    # Through the padding, as transformers counts them.
    "positions": np.tile(np.arange(length, dtype=np.int32), (ROWS, 1)),
    "types": np.where(real, types, 0).astype(np.int32),
    "cls_positions": (last if summary == "last" else 0 * last).astype(np.int32),
  }
  return made | (_target(made) if "towers" in description else {})


def _target(batch) -> dict[str, np.ndarray]:
  """What a decoder reads: the first three quarters of the source."""
  keys = ("inputs", "segments", "positions")
  held = batch["inputs"].shape[1] * 3 // 4
  return {f"decoder_{key}": batch[key][:, :held] for key in keys}


def outputs(spec, params, batch) -> dict[str, np.ndarray]:
  """role -> output of jaxlm, and 'hidden'; padded rows of tokens are 0.

  In float64 where the parameters are.
  """
  dtype = paths.flatten(params)["embeddings/table"].dtype
  double = np.dtype(dtype) == np.float64
  with contextlib.ExitStack() as stack:
    if double:
      stack.enter_context(jax.enable_x64(True))
    stack.enter_context(jax.default_matmul_precision("float32"))
    model = assembly.build(spec, dtype=dtype, param_dtype=dtype)
    made = jax.jit(model.apply)({"params": params}, batch)
    made = {name: np.asarray(value) for name, value in made.items()}
  found = {"hidden": made["hidden"]}
  for role, name in description_lib.roles(spec).items():
    found[role] = made[name]
  return {k: _real(v, batch) for k, v in found.items()}


def differences(
  first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> dict[str, float]:
  """Largest absolute difference of each output that both have."""
  return {
    name: float(np.max(np.abs(first[name] - second[name])))
    for name in first
    if name in second
  }


def transformers_installed() -> bool:
  """Whether PyTorch and transformers can be imported."""
  return all(importlib.util.find_spec(n) for n in ("torch", "transformers"))


def transformers_outputs(folder, roles, batch) -> dict[str, np.ndarray]:
  """role -> output of the folder's classes in transformers.

  Code in the folder is run, so it must be one that jaxlm wrote.
  """
  import torch
  import transformers

  inputs = {
    "input_ids": torch.tensor(batch["inputs"]).long(),
    "attention_mask": torch.tensor(batch["segments"]).long(),
  }
  if "decoder_inputs" in batch:
    inputs |= {
      "decoder_input_ids": torch.tensor(batch["decoder_inputs"]).long(),
      "decoder_attention_mask": torch.tensor(batch["decoder_segments"]).long(),
    }
  if np.any(batch["types"]):
    inputs["token_type_ids"] = torch.tensor(batch["types"]).long()
  found = {}
  for role, auto in {"hidden": "AutoModel", **roles}.items():
    with _quiet(transformers), torch.no_grad():
      model = getattr(transformers, auto).from_pretrained(
        str(folder), trust_remote_code=True, attn_implementation="eager"
      )
      made = model.eval()(**inputs)
    value = made.last_hidden_state if role == "hidden" else _logits(made, role)
    value = value.to(torch.promote_types(value.dtype, torch.float32)).numpy()
    sentence = role in ("classify", "regress", "next_sentence")
    value = value[..., None] if role == "replaced_token" else value
    found[role] = _real(value[:, None] if sentence else value, batch)
  return found


@contextlib.contextmanager
def _quiet(transformers):
  """Without its report of heads that a class has and the folder has not."""
  held = transformers.logging.get_verbosity()
  transformers.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  try:
    yield
  finally:
    transformers.logging.set_verbosity(held)
    transformers.utils.logging.enable_progress_bar()


def _logits(made, role):
  if role == "next_sentence":
    for name in ("seq_relationship_logits", "sop_logits"):
      if hasattr(made, name):
        return getattr(made, name)
  if hasattr(made, "prediction_logits"):
    return made.prediction_logits
  return made.logits


def _real(value, batch):
  mask = batch.get("decoder_segments", batch["segments"])
  if value.shape[:2] != mask.shape:
    return value
  return value * (mask > 0)[..., None]
