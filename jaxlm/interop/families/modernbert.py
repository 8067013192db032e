"""ModernBERT (arXiv:2412.13663) as transformers keeps it.

Query, key and value are one map, gate and value of the feed-forward another.
The first layer has no norm before its attention.
"""

from jaxlm.errors import UserError
from jaxlm.interop import settings as settings_lib
from jaxlm.interop.families import base
from jaxlm.interop.names import Leaf, fused, linear, norm, repeated

MODEL_TYPE = "modernbert"
PREFIX = "model."
BODY = "ModernBertModel"
TIED = ("decoder.weight",)
BUFFERS = r"inv_freq$"
FULL, LOCAL = "full_attention", "sliding_attention"
_THETA = {FULL: 160_000.0, LOCAL: 10_000.0}

_OURS = "stack/layers_{i}"
_LAYER = "model.layers.{i}"
_LAYERS = [
  *norm(f"{_OURS}/mixer_norm", f"{_LAYER}.attn_norm"),
  *fused(
    [f"{_OURS}/mixer/{name}" for name in ("query", "key", "value")],
    f"{_LAYER}.attn.Wqkv",
  ),
  *linear(f"{_OURS}/mixer/output", f"{_LAYER}.attn.Wo"),
  *norm(f"{_OURS}/feedforward_norm", f"{_LAYER}.mlp_norm"),
  *fused(
    [f"{_OURS}/feedforward/gate", f"{_OURS}/feedforward/up"],
    f"{_LAYER}.mlp.Wi",
  ),
  *linear(f"{_OURS}/feedforward/output", f"{_LAYER}.mlp.Wo"),
]


def leaves(description) -> list[Leaf]:
  """The table of names."""
  table = [
    Leaf("embeddings/table", "model.embeddings.tok_embeddings.weight"),
    *norm("input_norm", "model.embeddings.norm"),
    *repeated(_LAYERS, len(description["layers"])),
    *norm("final_norm", "model.final_norm"),
    *linear("heads_masked_lm/transform", "head.dense"),
    *norm("heads_masked_lm/norm", "head.norm"),
    Leaf("heads_masked_lm/output_bias", "decoder.bias"),
  ]
  for head in ("classify", "regress", "tag"):
    table += linear(f"heads_{head}/pooler", "head.dense")
    table += norm(f"heads_{head}/pooler_norm", "head.norm")
    table += linear(f"heads_{head}/output", "classifier")
  return table


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  settings.only("tie_word_embeddings", True, default=True)
  depth = settings.size("num_hidden_layers")
  kinds = _layer_types(settings, depth)
  layers, order = {}, []
  for i, kind in enumerate(kinds):
    name = "first" if i == 0 else {FULL: "wide", LOCAL: "local"}[kind]
    layers.setdefault(name, _layer(settings, kind, first=i == 0))
    order.append(name)
  return dict(
    kind="encoder",
    width=settings.size("hidden_size"),
    vocab_size=settings.size("vocab_size"),
    dropout=settings.get("embedding_dropout", 0.0),
    embeddings=dict(kind="token"),
    positions=dict(kind="none"),
    norm=dict(
      kind="layer_norm",
      epsilon=settings.get("norm_eps", 1e-5),
      use_bias=settings.get("norm_bias", False),
    ),
    input_norm=True,
    final_norm=True,
    layers=layers,
    order=tuple(order),
    stack=dict(kind="scan"),
    initializer=dict(
      std=settings.get("initializer_range", 0.02),
      truncated=True,
      scaled_output=True,
    ),
    heads=_heads(settings, found),
  )


def _layer(settings, kind, *, first) -> dict:
  bias = settings.get("mlp_bias", False)
  window = settings.get("local_attention", 128) if kind == LOCAL else 0
  return dict(
    block=dict(
      kind="pre_norm",
      dropout=settings.get("attention_dropout", 0.0),
      feedforward_dropout=0.0,
      skip_mixer_norm=first,
    ),
    mixer=dict(
      kind="attention",
      heads=settings.size("num_attention_heads"),
      window=window,
      use_bias=settings.get("attention_bias", False),
      dropout=settings.get("attention_dropout", 0.0),
      positions=dict(kind="rotary", theta=float(_theta(settings, kind))),
    ),
    feedforward=dict(
      kind="gated",
      hidden=settings.size("intermediate_size"),
      activation=settings.activation("hidden_activation", "gelu"),
      input_bias=bias,
      output_bias=bias,
      dropout=settings.get("mlp_dropout", 0.0),
    ),
  )


def _layer_types(settings, depth) -> list[str]:
  given = settings.get("layer_types")
  if given is None:
    every = settings.get("global_attn_every_n_layers", 3)
    return [LOCAL if i % every else FULL for i in range(depth)]
  if len(given) != depth or set(given) - {FULL, LOCAL}:
    raise UserError(
      f"'{settings.path}': layer_types is {given!r}; it names {FULL} or "
      f"{LOCAL} for each of the {depth} layers."
    )
  return list(given)


def _theta(settings, kind) -> float:
  key = "global_rope_theta" if kind == FULL else "local_rope_theta"
  fallback = settings.get(key) or _THETA[kind]
  found = (settings.get("rope_parameters") or {}).get(kind) or {}
  if found.get("rope_type", "default") != "default":
    raise UserError(
      f"'{settings.path}': rope_parameters.{kind}.rope_type is "
      f"{found['rope_type']!r}; jaxlm reads 'default'."
    )
  return found.get("rope_theta", fallback)


def _heads(settings, found) -> dict:
  pooler = dict(
    activation=settings.activation("classifier_activation", "gelu"),
    use_bias=settings.get("classifier_bias", False),
  )
  if found.has("classifier.weight"):
    role = base.classifier_role(settings, True)
    if role != "tag":
      settings.only("classifier_pooling", "cls", default="cls")
    head = dict(
      kind=role,
      classes=found.rows("classifier.weight"),
      dropout=settings.get("classifier_dropout", 0.0),
      pooler=True,
      pooler_activation=pooler["activation"],
      pooler_bias=pooler["use_bias"],
      pooler_norm=True,
    )
    return {role: head}
  if found.has("head.dense.weight"):
    output_bias = settings.get("decoder_bias", True)
    return {
      "masked_lm": dict(kind="masked_lm", output_bias=output_bias, **pooler)
    }
  return {}


def config(description, ids) -> dict:
  """The nearest config.json."""
  get = base.get
  depth = len(description["layers"])
  windows = [
    get(description, f"layers/{i}/mixer/window", 0) for i in range(depth)
  ]
  kinds = [LOCAL if window else FULL for window in windows]
  theta = dict(_THETA)
  for i, kind in enumerate(kinds):
    theta[kind] = get(
      description, f"layers/{i}/mixer/positions/theta", theta[kind]
    )
  return {
    "model_type": MODEL_TYPE,
    "vocab_size": description["vocab_size"],
    "hidden_size": description["width"],
    "intermediate_size": get(description, "layers/0/feedforward/hidden", 1),
    "num_hidden_layers": depth,
    "num_attention_heads": get(description, "layers/0/mixer/heads", 1),
    "hidden_activation": settings_lib.activation(
      get(description, "layers/0/feedforward/activation", "gelu")
    )
    or "gelu",
    "norm_eps": get(description, "norm/epsilon", 1e-5),
    "norm_bias": get(description, "norm/use_bias", False),
    "attention_bias": get(description, "layers/0/mixer/use_bias", False),
    "mlp_bias": get(description, "layers/0/feedforward/input_bias", False),
    "mlp_dropout": get(description, "layers/0/feedforward/dropout", 0.0),
    "attention_dropout": get(description, "layers/0/mixer/dropout", 0.0),
    "embedding_dropout": description["dropout"],
    "layer_types": kinds,
    "local_attention": max(windows) or 128,
    "rope_parameters": {
      kind: {"rope_type": "default", "rope_theta": float(value)}
      for kind, value in theta.items()
    },
    **_head_config(description),
    **{
      f"{role}_token_id": ids.get(role)
      for role in ("pad", "bos", "eos", "cls", "sep")
    },
    "tie_word_embeddings": True,
  }


def _head_config(description) -> dict:
  heads = description["heads"]
  written = {}
  if "masked_lm" in heads:
    head = heads["masked_lm"]
    bias, name = head["use_bias"], head["activation"]
    written["decoder_bias"] = head["output_bias"]
  else:
    head = next(iter(heads.values()), {})
    bias = head.get("pooler_bias", False)
    name = head.get("pooler_activation", "gelu")
    written["classifier_dropout"] = head.get("dropout", 0.0)
  return written | {
    "classifier_bias": bias,
    "classifier_activation": settings_lib.activation(name) or "gelu",
    "classifier_pooling": "cls",
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  alone = {
    "masked_lm": "ModernBertForMaskedLM",
    "classify": "ModernBertForSequenceClassification",
    "regress": "ModernBertForSequenceClassification",
    "tag": "ModernBertForTokenClassification",
  }
  return {role: alone[role] for role in roles if role in alone}
