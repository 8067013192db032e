"""What the two DeBERTa classes of transformers share.

The release (microsoft/deberta-*) has beside the body the masked-LM head of
its mask decoder, `lm_predictions.lm_head`, and the absolute positions that the
decoder reads; transformers has neither the decoder nor, without
`position_biased_input`, that table. So a file with both is a
`mask_decoding_encoder`; one of transformers an encoder, whose head stands
under the same names, or `cls.predictions` (its `legacy` layout).
"""

from jaxlm.errors import UserError
from jaxlm.interop import settings as settings_lib
from jaxlm.interop.families import base
from jaxlm.interop.names import Leaf, linear, norm, repeated

PREFIX = "deberta."
TIED = ("cls.predictions.decoder.weight",)
BUFFERS = r"position_ids$"
_ABSOLUTE = f"{PREFIX}embeddings.position_embeddings.weight"
_HEAD, _LEGACY = "lm_predictions.lm_head", "cls.predictions"
_EPSILON = 1e-7


def body(description, mixer: list[Leaf]) -> list[Leaf]:
  """All but the maps of a layer's attention, which `mixer` tells."""
  layer, ours = f"{PREFIX}encoder.layer.{{i}}", "stack/layers_{i}"
  embeddings = f"{PREFIX}embeddings"
  table = [
    Leaf("embeddings/table", f"{embeddings}.word_embeddings.weight"),
    Leaf("embeddings/type_table", f"{embeddings}.token_type_embeddings.weight"),
    Leaf("positions/table", _ABSOLUTE),
    Leaf("positions/relative", f"{PREFIX}encoder.rel_embeddings.weight"),
    *norm("input_norm", f"{embeddings}.LayerNorm"),
    *repeated(
      [
        *mixer,
        *linear(f"{ours}/mixer/output", f"{layer}.attention.output.dense"),
        *norm(f"{ours}/mixer_norm", f"{layer}.attention.output.LayerNorm"),
        *linear(f"{ours}/feedforward/input", f"{layer}.intermediate.dense"),
        *linear(f"{ours}/feedforward/output", f"{layer}.output.dense"),
        *norm(f"{ours}/feedforward_norm", f"{layer}.output.LayerNorm"),
      ],
      len(description["layers"]),
    ),
    *_masked_lm(),
  ]
  for head in ("classify", "regress"):
    table += linear(f"heads_{head}/pooler", "pooler.dense")
  for head in ("classify", "regress", "tag"):
    table += linear(f"heads_{head}/output", "classifier")
  return table


def _masked_lm() -> list[Leaf]:
  """The head under its new names, or its legacy ones."""
  legacy = lambda leaf: leaf.theirs.replace(
    f"{_HEAD}.", f"{_LEGACY}.transform."
  )
  bias = Leaf(
    "heads_masked_lm/output_bias",
    f"{_HEAD}.bias",
    aliases=(f"{_LEGACY}.bias", f"{_LEGACY}.decoder.bias"),
  )
  maps = [
    *linear("heads_masked_lm/transform", f"{_HEAD}.dense"),
    *norm("heads_masked_lm/norm", f"{_HEAD}.LayerNorm"),
  ]
  return [
    *(m._replace(aliases=(*m.aliases, legacy(m))) for m in maps),
    bias,
  ]


def spec(settings, found, *, buckets, normed, mixer, convolution=None) -> dict:
  """The spec of a folder, given what each class tells in its way."""
  _check(settings)
  width = settings.size("hidden_size")
  heads = settings.size("num_attention_heads")
  epsilon = settings.get("layer_norm_eps", _EPSILON)
  size = settings.get("attention_head_size", width // heads)
  dropout = settings.get("hidden_dropout_prob", 0.1)
  layer = dict(
    block=dict(kind="post_norm"),
    mixer=dict(
      kind="disentangled_attention",
      heads=heads,
      head_dim=0 if size * heads == width else size,
      terms=_terms(settings),
      dropout=settings.get("attention_probs_dropout_prob", 0.1),
      position_dropout=dropout,
      **mixer,
    ),
    feedforward=dict(
      kind="mlp",
      hidden=settings.size("intermediate_size"),
      activation=settings.activation("hidden_act", "gelu"),
    ),
  )
  roles = _heads(settings, found, layer["feedforward"]["activation"], dropout)
  positions = _positions(settings, buckets, normed and epsilon)
  decodes = not positions["biased_input"] and found.has(_ABSOLUTE)
  decodes = decodes and "masked_lm" in roles
  if decodes or positions["biased_input"]:
    positions["max_length"] = found.rows(_ABSOLUTE)
  depth = settings.size("num_hidden_layers")
  return dict(
    kind="mask_decoding_encoder" if decodes else "encoder",
    width=width,
    vocab_size=settings.size("vocab_size"),
    dropout=dropout,
    embeddings=dict(kind="token", types=settings.get("type_vocab_size", 0)),
    positions=positions,
    norm=dict(kind="layer_norm", epsilon=epsilon),
    input_norm=True,
    **_layers(layer, depth, convolution, apart=decodes),
    stack=dict(kind="scan"),
    heads=roles,
    initializer=dict(std=settings.get("initializer_range", 0.02)),
  )


def _check(settings):
  settings.only("relative_attention", True, default=False)
  settings.only("tie_word_embeddings", True, default=True)
  settings.only("talking_head", False, default=False)
  width = settings.size("hidden_size")
  settings.only("embedding_size", width, default=width)
  settings.only("pooler_hidden_size", width, default=width)


def words(value) -> list[str]:
  """The parts of 'p2c|c2p', or of a list of such."""
  words = value.split("|") if isinstance(value, str) else list(value or ())
  return [word.strip().lower() for word in words]


def _terms(settings) -> tuple[str, ...]:
  named = set(words(settings.get("pos_att_type")))
  if not named or not named <= {"c2p", "p2c"}:
    raise UserError(
      f"'{settings.path}': pos_att_type is {settings.get('pos_att_type')!r}; "
      "jaxlm reads 'c2p', 'p2c' or both."
    )
  return tuple(sorted(named))


def _positions(settings, buckets, epsilon) -> dict:
  longest = settings.get("max_relative_positions", -1)
  if longest < 1:
    longest = settings.size("max_position_embeddings")
  return dict(
    kind="disentangled",
    buckets=buckets,
    max_distance=longest,
    norm=dict(kind="layer_norm", epsilon=epsilon) if epsilon else None,
    biased_input=bool(settings.get("position_biased_input", True)),
  )


def _layers(layer, depth, convolution, *, apart) -> dict:
  """The palette and order; `apart`: the last layer has its own name."""
  palette, order = {"layer": layer, "last": layer}, ["layer"] * depth
  if convolution:
    order[0], palette["first"] = "first", {**layer, "block": convolution}
  if apart:
    order[-1] = "last"
  return dict(
    layers={name: palette[name] for name in dict.fromkeys(order)},
    order=tuple(order),
  )


def _heads(settings, found, activation, dropout) -> dict:
  heads = {}
  if found.has(f"{_HEAD}.dense.weight") or found.has(
    f"{_LEGACY}.transform.dense.weight"
  ):
    heads["masked_lm"] = dict(kind="masked_lm", activation=activation)
  if found.has("classifier.weight"):
    pooled = found.has("pooler.dense.weight")
    role = base.classifier_role(settings, pooled)
    rate = settings.get("cls_dropout")
    heads[role] = dict(
      kind=role,
      classes=found.rows("classifier.weight"),
      dropout=dropout if rate is None or role == "tag" else rate,
    )
    if role != "tag":
      heads[role]["pooler_activation"] = settings.activation(
        "pooler_hidden_act", "gelu"
      )
  return heads


def adapted(spec, arrays, ids):
  """Without absolute positions that neither input nor decoder reads."""
  del ids
  if spec["kind"] != "encoder" or "max_length" not in spec["positions"]:
    return spec, arrays
  if spec["positions"].get("biased_input", False):
    return spec, arrays
  positions = {k: v for k, v in spec["positions"].items() if k != "max_length"}
  arrays = {k: v for k, v in arrays.items() if k != "positions/table"}
  return {**spec, "positions": positions}, arrays


def config(description, ids) -> dict:
  """The keys of both classes."""
  get = base.get
  mixer, positions = "layers/0/mixer", "positions"
  heads = description["heads"].values()
  pooler = next((h["pooler_activation"] for h in heads if h.get("pooler")), 0)
  heads = get(description, f"{mixer}/heads", 1)
  longest = get(description, f"{positions}/max_distance", 512)
  return {
    "vocab_size": description["vocab_size"],
    "hidden_size": description["width"],
    "num_hidden_layers": len(description["layers"]),
    "num_attention_heads": heads,
    "attention_head_size": get(description, f"{mixer}/head_dim", 0)
    or description["width"] // heads,
    "intermediate_size": get(description, "layers/0/feedforward/hidden", 1),
    "hidden_act": settings_lib.activation(
      get(description, "layers/0/feedforward/activation", "gelu")
    )
    or "gelu",
    "hidden_dropout_prob": description["dropout"],
    "attention_probs_dropout_prob": get(description, f"{mixer}/dropout", 0.0),
    "max_position_embeddings": get(description, f"{positions}/max_length")
    or longest,
    "max_relative_positions": longest,
    "relative_attention": True,
    "pos_att_type": list(get(description, f"{mixer}/terms", ())),
    "position_biased_input": get(
      description, f"{positions}/biased_input", False
    ),
    "type_vocab_size": get(description, "embeddings/types", 0),
    "layer_norm_eps": get(description, "norm/epsilon", _EPSILON),
    "pooler_hidden_act": settings_lib.activation(pooler or "gelu"),
    "pooler_dropout": 0.0,
    "pad_token_id": ids.get("pad", 0),
    "bos_token_id": ids.get("bos"),
    "eos_token_id": ids.get("eos"),
    "legacy": False,
    "tie_word_embeddings": True,
  }


def architectures(roles, name: str) -> dict[str, str]:
  """role -> class."""
  alone = {
    "masked_lm": f"{name}ForMaskedLM",
    "classify": f"{name}ForSequenceClassification",
    "regress": f"{name}ForSequenceClassification",
    "tag": f"{name}ForTokenClassification",
  }
  return {role: alone[role] for role in roles if role in alone}
