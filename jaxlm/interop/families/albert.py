"""ALBERT (arXiv:1909.11942) as transformers keeps it.

A group of layers is kept once, whatever number of layers computes with it.
"""

from jaxlm.interop.families import base, bert
from jaxlm.interop.names import Leaf, linear, norm

MODEL_TYPE = "albert"
PREFIX = "albert."
BODY = "AlbertModel"
TIED = ("predictions.decoder.weight",)
BUFFERS = bert.BUFFERS
AUTO = {"next_sentence": "AutoModelForPreTraining"}


def sharing(layers: int, groups: int, inner: int) -> list[int]:
  """The layer whose parameters each of `layers * inner` layers uses.

  Args:
    layers: `num_hidden_layers`.
    groups: `num_hidden_groups`; layer i uses group int(i / (layers / groups)).
    inner: `inner_group_num`, layers of a group, which run one after another.
  """
  order = [
    (int(i / (layers / groups)), j) for i in range(layers) for j in range(inner)
  ]
  return [order.index(place) for place in order]


def _places(description) -> list[tuple[int, int, int]]:
  """(our layer, their group, their layer in it) of every layer kept."""
  inner = _grouping(description)[2]
  kept = sorted(set(_sharing(description)))
  return [(ours, *divmod(k, inner)) for k, ours in enumerate(kept)]


def _sharing(description) -> list[int]:
  every = list(range(len(description["layers"])))
  return description.get("sharing", every)


def _grouping(description) -> tuple[int, int, int]:
  """(layers, groups, inner) that come nearest to how layers are shared."""
  wanted = _sharing(description)
  kept = len(set(wanted))
  for inner in range(1, kept + 1):
    if kept % inner or len(wanted) % inner:
      continue
    made = (len(wanted) // inner, kept // inner, inner)
    if sharing(*made) == wanted:
      return made
  return len(wanted), 1, 1


def leaves(description) -> list[Leaf]:
  """The table of names."""
  embeddings = f"{PREFIX}embeddings"
  table = [
    Leaf("embeddings/table", f"{embeddings}.word_embeddings.weight"),
    Leaf("embeddings/type_table", f"{embeddings}.token_type_embeddings.weight"),
    Leaf("positions/table", f"{embeddings}.position_embeddings.weight"),
    *norm("input_norm", f"{embeddings}.LayerNorm"),
    *linear(
      "embeddings/projection", f"{PREFIX}encoder.embedding_hidden_mapping_in"
    ),
  ]
  for ours, group, inner in _places(description):
    table += _layer(
      f"stack/layers_{ours}",
      f"{PREFIX}encoder.albert_layer_groups.{group}.albert_layers.{inner}",
    )
  table += linear("heads_masked_lm/transform", "predictions.dense")
  table += norm("heads_masked_lm/norm", "predictions.LayerNorm")
  table.append(
    Leaf(
      "heads_masked_lm/output_bias",
      "predictions.bias",
      aliases=("predictions.decoder.bias",),
    )
  )
  for head in ("next_sentence", "classify", "regress"):
    table += linear(f"heads_{head}/pooler", f"{PREFIX}pooler")
  table += linear("heads_next_sentence/output", "sop_classifier.classifier")
  for head in ("classify", "regress", "tag"):
    table += linear(f"heads_{head}/output", "classifier")
  return table


def _layer(ours, theirs) -> list[Leaf]:
  return [
    *linear(f"{ours}/mixer/query", f"{theirs}.attention.query"),
    *linear(f"{ours}/mixer/key", f"{theirs}.attention.key"),
    *linear(f"{ours}/mixer/value", f"{theirs}.attention.value"),
    *linear(f"{ours}/mixer/output", f"{theirs}.attention.dense"),
    *norm(f"{ours}/mixer_norm", f"{theirs}.attention.LayerNorm"),
    *linear(f"{ours}/feedforward/input", f"{theirs}.ffn"),
    *linear(f"{ours}/feedforward/output", f"{theirs}.ffn_output"),
    *norm(f"{ours}/feedforward_norm", f"{theirs}.full_layer_layer_norm"),
  ]


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  spec = bert.encoder_spec(settings, offset=0)
  layer = spec["layers"]["layer"]
  # The class drops nothing that the feed-forward adds.
  layer["block"] |= dict(feedforward_dropout=0.0)
  layer["mixer"] |= dict(
    dropout=settings.get("attention_probs_dropout_prob", 0.0)
  )
  activation = settings.activation("hidden_act", "gelu_new")
  layer["feedforward"] |= dict(activation=activation)
  spec["embeddings"] |= dict(
    kind="factorized", table_width=settings.get("embedding_size", 128)
  )
  spec["dropout"] = settings.get("hidden_dropout_prob", 0.0)
  uses = sharing(
    settings.size("num_hidden_layers"),
    settings.get("num_hidden_groups", 1),
    settings.get("inner_group_num", 1),
  )
  order = tuple(f"group_{place}" for place in uses)
  return {
    **spec,
    "layers": {name: layer for name in dict.fromkeys(order)},
    "order": order,
    "depth": len(order),
    "stack": dict(kind="shared"),
    "heads": _heads(settings, found, activation),
  }


def _heads(settings, found, activation) -> dict:
  heads = {}
  dropout = settings.get("classifier_dropout_prob", 0.1)
  if found.has("predictions.dense.weight"):
    heads["masked_lm"] = dict(kind="masked_lm", activation=activation)
  if found.has("sop_classifier.classifier.weight"):
    heads["next_sentence"] = dict(
      kind="classify",
      classes=found.rows("sop_classifier.classifier.weight"),
      dropout=dropout,
    )
  if found.has("classifier.weight"):
    role = base.classifier_role(settings, found.has(f"{PREFIX}pooler.weight"))
    heads[role] = dict(
      kind=role, classes=found.rows("classifier.weight"), dropout=dropout
    )
  return heads


def config(description, ids) -> dict:
  """The nearest config.json."""
  layers, groups, inner = _grouping(description)
  rates = [
    head["dropout"]
    for head in description["heads"].values()
    if "dropout" in head
  ]
  return {
    "model_type": MODEL_TYPE,
    **bert.encoder_config(description, ids),
    "num_hidden_layers": layers,
    "num_hidden_groups": groups,
    "inner_group_num": inner,
    "embedding_size": base.get(
      description, "embeddings/table_width", description["width"]
    ),
    "classifier_dropout_prob": max(rates, default=0.1),
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  alone = {
    "masked_lm": "AlbertForMaskedLM",
    "next_sentence": "AlbertForPreTraining",
    "classify": "AlbertForSequenceClassification",
    "regress": "AlbertForSequenceClassification",
    "tag": "AlbertForTokenClassification",
  }
  if "next_sentence" in roles:
    alone["masked_lm"] = "AlbertForPreTraining"
  return {role: alone[role] for role in roles if role in alone}
