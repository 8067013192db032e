"""MobileBERT (arXiv:2004.02984) as transformers keeps it.

The class knows no documents: neighbours in a trigram are 0 at the ends of a
row alone. Models trained with padding hidden from them are exported with a
padding token whose row is 0, which computes the same hidden states.
"""

import numpy as np

from jaxlm.interop import settings as settings_lib
from jaxlm.interop.families import base, bert
from jaxlm.interop.names import Leaf, linear, norm, repeated

MODEL_TYPE = "mobilebert"
PREFIX = "mobilebert."
BODY = "MobileBertModel"
TIED = ("cls.predictions.decoder.weight",)
BUFFERS = bert.BUFFERS
# transformers gives two of a layer's norms no epsilon, so torch's own counts.
_EPSILON = 1e-5
_LAYER = "layers/0/block"
_SENTENCES = ("classify", "regress")


def leaves(description) -> list[Leaf]:
  """The table of names."""
  count = base.get(description, f"{_LAYER}/feedforwards", 1)
  transform = f"{PREFIX}embeddings.embedding_transformation"
  table = [
    Leaf("embeddings/table", f"{PREFIX}embeddings.word_embeddings.weight"),
    Leaf(
      "embeddings/type_table",
      f"{PREFIX}embeddings.token_type_embeddings.weight",
    ),
    *linear("embeddings/projection", transform),
    Leaf("positions/table", f"{PREFIX}embeddings.position_embeddings.weight"),
    *_norm("input_norm", f"{PREFIX}embeddings.LayerNorm"),
    *repeated(_layer(count), len(description["layers"])),
    *linear("heads_masked_lm/transform", "cls.predictions.transform.dense"),
    *norm("heads_masked_lm/norm", "cls.predictions.transform.LayerNorm"),
    Leaf("heads_masked_lm/output_table", "cls.predictions.dense.weight", True),
    Leaf(
      "heads_masked_lm/output_bias",
      "cls.predictions.bias",
      aliases=("cls.predictions.decoder.bias",),
    ),
  ]
  for head in ("next_sentence", "classify", "regress"):
    table += linear(f"heads_{head}/pooler", f"{PREFIX}pooler.dense")
  table += linear("heads_next_sentence/output", "cls.seq_relationship")
  for head in ("classify", "regress", "tag"):
    table += linear(f"heads_{head}/output", "classifier")
  return table


def _layer(count: int) -> list[Leaf]:
  """One layer with `count` feed-forwards, the last of which stands apart."""
  ours, theirs = "stack/layers_{i}", f"{PREFIX}encoder.layer.{{i}}"
  bottleneck, attention = f"{theirs}.bottleneck", f"{theirs}.attention"
  table = [
    *linear(f"{ours}/input", f"{bottleneck}.input.dense"),
    *_norm(f"{ours}/input_norm", f"{bottleneck}.input.LayerNorm"),
    *linear(f"{ours}/shared", f"{bottleneck}.attention.dense"),
    *_norm(f"{ours}/shared_norm", f"{bottleneck}.attention.LayerNorm"),
    *linear(f"{ours}/mixer/output", f"{attention}.output.dense"),
    *_norm(f"{ours}/mixer_norm", f"{attention}.output.LayerNorm"),
    *linear(f"{ours}/output", f"{theirs}.output.bottleneck.dense"),
    *_norm(f"{ours}/output_norm", f"{theirs}.output.bottleneck.LayerNorm"),
  ]
  for name in ("query", "key", "value"):
    table += linear(f"{ours}/mixer/{name}", f"{attention}.self.{name}")
  for j in range(count):
    place = theirs if j == count - 1 else f"{theirs}.ffn.{j}"
    inside = f"{ours}/inner_feedforwards_{j}"
    table += linear(f"{inside}/input", f"{place}.intermediate.dense")
    table += linear(f"{inside}/output", f"{place}.output.dense")
    table += _norm(f"{ours}/feedforward_norms_{j}", f"{place}.output.LayerNorm")
  return table


def _norm(ours: str, theirs: str) -> list[Leaf]:
  """A norm of either kind; one without statistics is a level less deep."""
  return [
    *norm(ours, theirs),
    Leaf(f"{ours}/scale", f"{theirs}.weight"),
    Leaf(f"{ours}/bias", f"{theirs}.bias"),
  ]


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  settings.only("use_bottleneck", True, default=True)
  settings.only("trigram_input", True, default=True)
  spec = bert.encoder_spec(settings, offset=0)
  layer = spec["layers"]["layer"]
  inner = settings.size("intra_bottleneck_size")
  heads = settings.size("num_attention_heads")
  layer["block"] = dict(
    kind="bottleneck",
    inner=inner,
    feedforwards=settings.size("num_feedforward_networks"),
    attention_input=_attention_input(settings),
  )
  layer["mixer"]["head_dim"] = inner // heads
  layer["feedforward"]["activation"] = settings.activation("hidden_act", "relu")
  return spec | dict(
    embeddings=dict(
      kind="trigram",
      types=settings.size("type_vocab_size"),
      table_width=settings.size("embedding_size"),
      parity=True,
    ),
    norm=_norm_spec(settings),
    heads=_heads(settings, found, layer["feedforward"]["activation"]),
  )


def _attention_input(settings) -> str:
  if settings.get("use_bottleneck_attention", False):
    return "bottleneck"
  # With neither, transformers' own class cannot run (unless widths agree).
  settings.only("key_query_shared_bottleneck", True, default=True)
  return "shared"


def _norm_spec(settings) -> dict:
  kinds = ("no_norm", "layer_norm")
  kind = settings.only("normalization_type", *kinds, default="no_norm")
  if kind == "no_norm":
    return dict(kind=kind)
  epsilon = settings.only("layer_norm_eps", _EPSILON, default=1e-12)
  return dict(kind=kind, epsilon=epsilon)


def _heads(settings, found, activation) -> dict:
  heads = {}
  pooler = bool(settings.get("classifier_activation", True))
  width = settings.size("hidden_size")
  if found.has("cls.predictions.transform.dense.weight"):
    heads["masked_lm"] = dict(
      kind="masked_lm",
      activation=activation,
      untied=width - settings.size("embedding_size"),
      norm=dict(
        kind="layer_norm", epsilon=settings.get("layer_norm_eps", 1e-12)
      ),
    )
  if found.has("cls.seq_relationship.weight"):
    heads["next_sentence"] = dict(
      kind="classify", classes=2, dropout=0.0, pooler=pooler
    )
  if found.has("classifier.weight"):
    pooled = found.has(f"{PREFIX}pooler.dense.weight")
    role = base.classifier_role(settings, pooled)
    heads[role] = dict(
      kind=role,
      classes=found.rows("classifier.weight"),
      dropout=bert.head_dropout(settings),
      **({} if role == "tag" else {"pooler": pooler}),
    )
  return heads


def adapted(spec, arrays, ids):
  """A model whose neighbours stop at padding, for a class that knows none.

  Args:
    spec: of the model to export.
    arrays: its parameters by path.
    ids: role -> id of the special tokens.

  Returns:
    spec and arrays of the same hidden states: padding is a row of zeros.
  """
  embeddings = spec["embeddings"]
  if embeddings["kind"] != "trigram" or embeddings.get("parity", False):
    return spec, arrays
  table = np.array(arrays["embeddings/table"])
  table[ids.get("pad", 0)] = 0.0
  return (
    {**spec, "embeddings": {**embeddings, "parity": True}},
    {**arrays, "embeddings/table": table},
  )


def config(description, ids) -> dict:
  """The nearest config.json."""
  get = base.get
  inner = get(description, f"{_LAYER}/inner", 1)
  reads = get(description, f"{_LAYER}/attention_input")
  heads = description["heads"].values()
  poolers = [head["pooler"] for head in heads if head["kind"] in _SENTENCES]
  epsilon = get(description, "norm/epsilon") or get(
    description, "heads/masked_lm/norm/epsilon", 1e-12
  )
  return {
    **bert.encoder_config(description, ids),
    "model_type": MODEL_TYPE,
    "hidden_act": settings_lib.activation(
      get(description, "layers/0/feedforward/activation", "relu")
    )
    or "relu",
    "layer_norm_eps": epsilon,
    "normalization_type": get(description, "norm/kind"),
    "embedding_size": get(description, "embeddings/table_width", 1),
    "trigram_input": True,
    "use_bottleneck": True,
    "intra_bottleneck_size": inner,
    "use_bottleneck_attention": reads == "bottleneck",
    "key_query_shared_bottleneck": reads == "shared",
    "num_feedforward_networks": get(description, f"{_LAYER}/feedforwards", 1),
    "classifier_activation": any(poolers),
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  named = bert.architectures(roles)
  return {role: f"Mobile{name}" for role, name in named.items()}
