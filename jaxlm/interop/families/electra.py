"""ELECTRA (arXiv:2003.10555) as transformers keeps it.

A folder holds one tower: a discriminator, or a generator with a masked-LM
head. Tables of another width than the model are projected.
"""

from jaxlm.interop.families import base, bert
from jaxlm.interop.names import Leaf, linear, norm

MODEL_TYPE = "electra"
PREFIX = "electra."
BODY = "ElectraModel"
TIED = ("generator_lm_head.weight",)
BUFFERS = bert.BUFFERS


def leaves(description) -> list[Leaf]:
  """The table of names."""
  table = bert.encoder_leaves(PREFIX, len(description["layers"]))
  table += linear("embeddings/projection", f"{PREFIX}embeddings_project")
  table += linear("heads_masked_lm/transform", "generator_predictions.dense")
  table += norm("heads_masked_lm/norm", "generator_predictions.LayerNorm")
  table.append(Leaf("heads_masked_lm/output_bias", "generator_lm_head.bias"))
  judging = "discriminator_predictions.dense"
  table += linear("heads_replaced_token/transform", judging)
  table += linear("heads_replaced_token/score", f"{judging}_prediction")
  for head in ("classify", "regress"):
    table += linear(f"heads_{head}/pooler", "classifier.dense")
    table += linear(f"heads_{head}/output", "classifier.out_proj")
  table += linear("heads_tag/output", "classifier")
  return table


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  spec = bert.encoder_spec(settings, offset=0)
  table_width = settings.get("embedding_size", 128)
  if table_width != spec["width"]:
    spec["embeddings"] |= dict(kind="factorized", table_width=table_width)
  return {**spec, "heads": _heads(settings, found)}


def _heads(settings, found) -> dict:
  heads = {}
  if found.has("generator_predictions.dense.weight"):
    heads["masked_lm"] = dict(kind="masked_lm", activation="gelu")
  if found.has("discriminator_predictions.dense.weight"):
    heads["replaced_token"] = dict(
      kind="replaced_token",
      activation=settings.activation("hidden_act", "gelu"),
    )
  return heads | bert.task_heads(settings, found, pooler_activation="gelu")


def config(description, ids) -> dict:
  """The nearest config.json."""
  return {
    "model_type": MODEL_TYPE,
    **bert.encoder_config(description, ids),
    "embedding_size": base.get(
      description, "embeddings/table_width", description["width"]
    ),
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  alone = {
    "masked_lm": "ElectraForMaskedLM",
    "replaced_token": "ElectraForPreTraining",
    "classify": "ElectraForSequenceClassification",
    "regress": "ElectraForSequenceClassification",
    "tag": "ElectraForTokenClassification",
  }
  return {role: alone[role] for role in roles if role in alone}
