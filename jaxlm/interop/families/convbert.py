"""ConvBERT (arXiv:2008.02496) as transformers keeps it."""

from jaxlm.interop.families import base, bert
from jaxlm.interop.names import (
  COLUMN,
  DEPTHWISE,
  POINTWISE,
  Leaf,
  linear,
  norm,
  repeated,
)

MODEL_TYPE = "convbert"
PREFIX = "convbert."
BODY = "ConvBertModel"
TIED = ("generator_lm_head.weight",)
BUFFERS = bert.BUFFERS
CAVEAT = (
  "this class lets padding into its convolutions, which the trained model "
  "keeps out: rows with padding come out a little otherwise"
)


def leaves(description) -> list[Leaf]:
  """The table of names."""
  depth = len(description["layers"])
  table = [
    _blocks(leaf) if _grouped(description) else leaf
    for leaf in bert.encoder_leaves(PREFIX, depth)
  ]
  table += linear("embeddings/projection", f"{PREFIX}embeddings_project")
  table += repeated(_span(), depth)
  table += linear("heads_masked_lm/transform", "generator_predictions.dense")
  table += norm("heads_masked_lm/norm", "generator_predictions.LayerNorm")
  table.append(Leaf("heads_masked_lm/output_bias", "generator_lm_head.bias"))
  for head in ("classify", "regress"):
    table += linear(f"heads_{head}/pooler", "classifier.dense")
    table += linear(f"heads_{head}/output", "classifier.out_proj")
  table += linear("heads_tag/output", "classifier")
  return table


def _grouped(description) -> bool:
  kind = base.get(description, "layers/0/feedforward/kind")
  return kind == "grouped_mlp"


def _blocks(leaf):
  """Kernels of grouped maps are kept as ours are."""
  return leaf._replace(transpose=False) if "feedforward/" in leaf.ours else leaf


def _span() -> list[Leaf]:
  ours = "stack/layers_{i}/mixer/span"
  theirs = f"{PREFIX}encoder.layer.{{i}}.attention.self"
  keys = f"{theirs}.key_conv_attn_layer"
  return [
    Leaf(
      f"{ours}/depthwise/filter", f"{keys}.depthwise.weight", layout=DEPTHWISE
    ),
    Leaf(
      f"{ours}/pointwise/kernel", f"{keys}.pointwise.weight", layout=POINTWISE
    ),
    Leaf(f"{ours}/pointwise/bias", f"{keys}.bias", layout=COLUMN),
    *linear(f"{ours}/kernel", f"{theirs}.conv_kernel_layer"),
    *linear(f"{ours}/value", f"{theirs}.conv_out_layer"),
  ]


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  spec = bert.encoder_spec(settings, offset=0)
  layer = spec["layers"]["layer"]
  heads = settings.size("num_attention_heads")
  layer["mixer"] |= dict(
    kind="mixed_attention",
    heads=max(heads // settings.get("head_ratio", 2), 1),
    kernel_size=settings.get("conv_kernel_size", 9),
    parity=True,
  )
  groups = settings.get("num_groups", 1)
  if groups > 1:
    layer["feedforward"] |= dict(kind="grouped_mlp", groups=groups)
  table = settings.get("embedding_size", 768)
  if table != spec["width"]:
    spec["embeddings"] |= dict(kind="factorized", table_width=table)
  return {**spec, "heads": _heads(settings, found)}


def _heads(settings, found) -> dict:
  heads = {}
  if found.has("generator_predictions.dense.weight"):
    heads["masked_lm"] = dict(kind="masked_lm", activation="gelu")
  activation = settings.activation("hidden_act", "gelu")
  return heads | bert.task_heads(settings, found, pooler_activation=activation)


def config(description, ids) -> dict:
  """The nearest config.json."""
  get = base.get
  return {
    "model_type": MODEL_TYPE,
    **bert.encoder_config(description, ids),
    "num_attention_heads": 2 * get(description, "layers/0/mixer/heads", 1),
    "head_ratio": 2,
    "conv_kernel_size": get(description, "layers/0/mixer/kernel_size", 9),
    "num_groups": get(description, "layers/0/feedforward/groups", 1),
    "embedding_size": get(
      description, "embeddings/table_width", description["width"]
    ),
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  alone = {
    "masked_lm": "ConvBertForMaskedLM",
    "classify": "ConvBertForSequenceClassification",
    "regress": "ConvBertForSequenceClassification",
    "tag": "ConvBertForTokenClassification",
  }
  return {role: alone[role] for role in roles if role in alone}
