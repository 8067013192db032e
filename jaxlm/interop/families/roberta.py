"""RoBERTa (arXiv:1907.11692) as transformers keeps it.

Its position table begins with rows that belong to padding: position 0 is row
`pad_token_id + 1`.
"""

import numpy as np

from jaxlm.interop.families import base, bert
from jaxlm.interop.names import Leaf, linear, norm

MODEL_TYPE = "roberta"
PREFIX = "roberta."
BODY = "RobertaModel"
TIED = ("lm_head.decoder.weight",)
BUFFERS = bert.BUFFERS


def leaves(description) -> list[Leaf]:
  """The table of names."""
  table = bert.encoder_leaves(PREFIX, len(description["layers"]))
  table += linear("heads_masked_lm/transform", "lm_head.dense")
  table += norm("heads_masked_lm/norm", "lm_head.layer_norm")
  table.append(
    Leaf(
      "heads_masked_lm/output_bias",
      "lm_head.bias",
      aliases=("lm_head.decoder.bias",),
    )
  )
  for head in ("classify", "regress"):
    table += linear(f"heads_{head}/pooler", "classifier.dense")
    table += linear(f"heads_{head}/output", "classifier.out_proj")
  table += linear("heads_tag/output", "classifier")
  return table


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  pad = settings.get("pad_token_id", 1)
  spec = bert.encoder_spec(settings, offset=(1 if pad is None else pad) + 1)
  heads = {}
  if found.has("lm_head.dense.weight"):
    heads["masked_lm"] = dict(kind="masked_lm", activation="gelu")
  heads |= bert.task_heads(settings, found)
  return {**spec, "heads": heads}


def adapted(spec, arrays, ids):
  """Spec and arrays whose position 0 is in the row behind the padding's id."""
  offset = spec["positions"].get("offset", 0)
  wanted = ids.get("pad", offset - 1) + 1
  if not offset or offset == wanted:
    return spec, arrays
  table = arrays["positions/table"][offset:]
  unused = np.zeros((wanted, table.shape[1]), table.dtype)
  return (
    {**spec, "positions": {**spec["positions"], "offset": wanted}},
    {**arrays, "positions/table": np.concatenate([unused, table])},
  )


def config(description, ids) -> dict:
  """The nearest config.json."""
  offset = base.get(description, "positions/offset", 0)
  return {
    "model_type": MODEL_TYPE,
    **bert.encoder_config(description, ids),
    "pad_token_id": max(offset - 1, 0),
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  alone = {
    "masked_lm": "RobertaForMaskedLM",
    "classify": "RobertaForSequenceClassification",
    "regress": "RobertaForSequenceClassification",
    "tag": "RobertaForTokenClassification",
  }
  return {role: alone[role] for role in roles if role in alone}
