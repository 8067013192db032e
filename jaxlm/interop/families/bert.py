"""BERT (arXiv:1810.04805) as transformers keeps it."""

from jaxlm.interop import settings as settings_lib
from jaxlm.interop.families import base
from jaxlm.interop.names import Leaf, linear, norm, repeated

MODEL_TYPE = "bert"
PREFIX = "bert."
BODY = "BertModel"
TIED = ("cls.predictions.decoder.weight",)
BUFFERS = r"position_ids$|token_type_ids$"


def encoder_leaves(prefix: str, depth: int) -> list[Leaf]:
  """Embeddings and layers, which RoBERTa shares."""
  attention = f"{prefix}encoder.layer.{{i}}.attention"
  layer = f"{prefix}encoder.layer.{{i}}"
  ours = "stack/layers_{i}"
  return [
    Leaf("embeddings/table", f"{prefix}embeddings.word_embeddings.weight"),
    Leaf(
      "embeddings/type_table",
      f"{prefix}embeddings.token_type_embeddings.weight",
    ),
    Leaf("positions/table", f"{prefix}embeddings.position_embeddings.weight"),
    *norm("input_norm", f"{prefix}embeddings.LayerNorm"),
    *repeated(
      [
        *linear(f"{ours}/mixer/query", f"{attention}.self.query"),
        *linear(f"{ours}/mixer/key", f"{attention}.self.key"),
        *linear(f"{ours}/mixer/value", f"{attention}.self.value"),
        *linear(f"{ours}/mixer/output", f"{attention}.output.dense"),
        *norm(f"{ours}/mixer_norm", f"{attention}.output.LayerNorm"),
        *linear(f"{ours}/feedforward/input", f"{layer}.intermediate.dense"),
        *linear(f"{ours}/feedforward/output", f"{layer}.output.dense"),
        *norm(f"{ours}/feedforward_norm", f"{layer}.output.LayerNorm"),
      ],
      depth,
    ),
  ]


def leaves(description) -> list[Leaf]:
  """The table of names."""
  table = encoder_leaves(PREFIX, len(description["layers"]))
  table += linear(
    "heads_masked_lm/transform", "cls.predictions.transform.dense"
  )
  table += norm("heads_masked_lm/norm", "cls.predictions.transform.LayerNorm")
  table.append(
    Leaf(
      "heads_masked_lm/output_bias",
      "cls.predictions.bias",
      aliases=("cls.predictions.decoder.bias",),
    )
  )
  for head in ("next_sentence", "classify", "regress"):
    table += linear(f"heads_{head}/pooler", f"{PREFIX}pooler.dense")
  table += linear("heads_next_sentence/output", "cls.seq_relationship")
  for head in ("classify", "regress", "tag"):
    table += linear(f"heads_{head}/output", "classifier")
  return table


def encoder_spec(settings, *, offset: int) -> dict:
  """All but the heads of a spec, which RoBERTa shares."""
  settings.only("is_decoder", False, default=False)
  settings.only("add_cross_attention", False, default=False)
  settings.only("position_embedding_type", "absolute", default="absolute")
  settings.only("tie_word_embeddings", True, default=True)
  width = settings.size("hidden_size")
  return dict(
    kind="encoder",
    width=width,
    vocab_size=settings.size("vocab_size"),
    dropout=settings.get("hidden_dropout_prob", 0.1),
    embeddings=dict(kind="token", types=settings.size("type_vocab_size")),
    positions=dict(
      kind="learned",
      max_length=settings.size("max_position_embeddings") - offset,
      offset=offset,
    ),
    norm=dict(kind="layer_norm", epsilon=settings.get("layer_norm_eps", 1e-12)),
    input_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="post_norm"),
        mixer=dict(
          kind="attention",
          heads=settings.size("num_attention_heads"),
          dropout=settings.get("attention_probs_dropout_prob", 0.1),
        ),
        feedforward=dict(
          kind="mlp",
          hidden=settings.size("intermediate_size"),
          activation=settings.activation("hidden_act", "gelu"),
        ),
      )
    ),
    order=("layer",),
    depth=settings.size("num_hidden_layers"),
    stack=dict(kind="scan"),
    initializer=dict(std=settings.get("initializer_range", 0.02)),
  )


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  spec = encoder_spec(settings, offset=0)
  heads = {}
  if found.has("cls.predictions.transform.dense.weight"):
    activation = spec["layers"]["layer"]["feedforward"]["activation"]
    heads["masked_lm"] = dict(kind="masked_lm", activation=activation)
  if found.has("cls.seq_relationship.weight"):
    heads["next_sentence"] = dict(kind="classify", classes=2, dropout=0.0)
  if found.has("classifier.weight"):
    role = base.classifier_role(
      settings, found.has(f"{PREFIX}pooler.dense.weight")
    )
    heads[role] = dict(
      kind=role,
      classes=found.rows("classifier.weight"),
      dropout=head_dropout(settings),
    )
  return {**spec, "heads": heads}


def head_dropout(settings) -> float:
  """The rate in front of a classifier."""
  rate = settings.get("classifier_dropout")
  return settings.get("hidden_dropout_prob", 0.1) if rate is None else rate


def task_heads(settings, found, **pooler) -> dict:
  """Heads of families whose classifier brings its own pooler (RoBERTa).

  Args:
    settings: of config.json.
    found: the tensors.
    **pooler: further fields of the head of sentences.
  """
  dropout = head_dropout(settings)
  if found.has("classifier.out_proj.weight"):
    role = base.classifier_role(settings, True)
    classes = found.rows("classifier.out_proj.weight")
    head = dict(classes=classes, dropout=dropout, input_dropout=True)
    return {role: dict(kind=role, **head, **pooler)}
  if found.has("classifier.weight"):
    classes = found.rows("classifier.weight")
    return {"tag": dict(kind="tag", classes=classes, dropout=dropout)}
  return {}


def encoder_config(description, ids) -> dict:
  """Sizes and rates, which RoBERTa shares."""
  get = base.get
  offset = get(description, "positions/offset", 0)
  return {
    "vocab_size": description["vocab_size"],
    "hidden_size": description["width"],
    "num_hidden_layers": len(description["layers"]),
    "num_attention_heads": get(description, "layers/0/mixer/heads", 1),
    "intermediate_size": get(description, "layers/0/feedforward/hidden", 1),
    "hidden_act": settings_lib.activation(
      get(description, "layers/0/feedforward/activation", "gelu")
    )
    or "gelu",
    "hidden_dropout_prob": description["dropout"],
    "attention_probs_dropout_prob": get(
      description, "layers/0/mixer/dropout", 0.0
    ),
    "max_position_embeddings": get(description, "positions/max_length", 1)
    + offset,
    "type_vocab_size": get(description, "embeddings/types", 0) or 1,
    "layer_norm_eps": get(description, "norm/epsilon", 1e-12),
    "pad_token_id": ids.get("pad", 0),
    "bos_token_id": ids.get("bos"),
    "eos_token_id": ids.get("eos"),
    "position_embedding_type": "absolute",
    "tie_word_embeddings": True,
  }


def config(description, ids) -> dict:
  """The nearest config.json."""
  return {"model_type": MODEL_TYPE, **encoder_config(description, ids)}


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  pair = {"masked_lm", "next_sentence"} <= set(roles)
  alone = {
    "masked_lm": "BertForPreTraining" if pair else "BertForMaskedLM",
    "next_sentence": (
      "BertForPreTraining" if pair else "BertForNextSentencePrediction"
    ),
    "classify": "BertForSequenceClassification",
    "regress": "BertForSequenceClassification",
    "tag": "BertForTokenClassification",
  }
  return {role: alone[role] for role in roles if role in alone}
