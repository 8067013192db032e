"""GPT-2 (Radford et al., 2019) as transformers keeps it.

Its dense maps are stored as [in, out], and query, key and value as one.
"""

from jaxlm.interop import settings as settings_lib
from jaxlm.interop.families import base
from jaxlm.interop.names import Leaf, fused, linear, norm, repeated

MODEL_TYPE = "gpt2"
PREFIX = "transformer."
BODY = "GPT2Model"
TIED = ("lm_head.weight",)
BUFFERS = r"\.attn\.(masked_)?bias$"

_OURS = "stack/layers_{i}"
_LAYER = "transformer.h.{i}"
_ATTENTION = [f"{_OURS}/mixer/{name}" for name in ("query", "key", "value")]
_LAYERS = [
  *norm(f"{_OURS}/mixer_norm", f"{_LAYER}.ln_1"),
  *fused(_ATTENTION, f"{_LAYER}.attn.c_attn", transpose=False),
  *linear(f"{_OURS}/mixer/output", f"{_LAYER}.attn.c_proj", transpose=False),
  *norm(f"{_OURS}/feedforward_norm", f"{_LAYER}.ln_2"),
  *linear(f"{_OURS}/feedforward/input", f"{_LAYER}.mlp.c_fc", transpose=False),
  *linear(
    f"{_OURS}/feedforward/output", f"{_LAYER}.mlp.c_proj", transpose=False
  ),
]


def leaves(description) -> list[Leaf]:
  """The table of names."""
  table = [
    Leaf("embeddings/table", "transformer.wte.weight"),
    Leaf("positions/table", "transformer.wpe.weight"),
    *repeated(_LAYERS, len(description["layers"])),
    *norm("final_norm", "transformer.ln_f"),
    *linear("heads_tag/output", "classifier"),
  ]
  for head in ("classify", "regress"):
    table.append(Leaf(f"heads_{head}/output/kernel", "score.weight", True))
    table.append(Leaf(f"heads_{head}/output/bias", "", zero=True))
  return table


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  settings.only("add_cross_attention", False, default=False)
  settings.only("tie_word_embeddings", True, default=True)
  width = settings.size("n_embd", "hidden_size")
  hidden = settings.get("n_inner") or 4 * width
  heads = settings.size("n_head", "num_attention_heads")
  depth = settings.size("n_layer", "num_hidden_layers")

  def layer(scale):
    return dict(
      block=dict(kind="pre_norm", dropout=settings.get("resid_pdrop", 0.1)),
      mixer=dict(
        kind="attention",
        heads=heads,
        causal=True,
        scale=scale,
        dropout=settings.get("attn_pdrop", 0.1),
      ),
      feedforward=dict(
        kind="mlp",
        hidden=hidden,
        activation=settings.activation("activation_function", "gelu_new"),
      ),
    )

  by_layer = settings.get("scale_attn_by_inverse_layer_idx", False)
  plain = settings.get("scale_attn_weights", True)
  scales = _scales(depth, width // heads, plain, by_layer)
  names = [f"layer_{i}" if by_layer else "layer" for i in range(depth)]
  spec = dict(
    kind="decoder",
    width=width,
    vocab_size=settings.size("vocab_size"),
    dropout=settings.get("embd_pdrop", 0.1),
    embeddings=dict(kind="token"),
    positions=dict(
      kind="learned",
      max_length=settings.size("n_positions", "max_position_embeddings"),
    ),
    norm=dict(
      kind="layer_norm", epsilon=settings.get("layer_norm_epsilon", 1e-5)
    ),
    final_norm=True,
    layers={name: layer(scale) for name, scale in zip(names, scales)},
    order=tuple(dict.fromkeys(names)),
    depth=depth,
    stack=dict(kind="scan"),
    initializer=dict(
      std=settings.get("initializer_range", 0.02), scaled_output=True
    ),
  )
  return {**spec, "heads": _heads(settings, found)}


def _scales(depth, head_dim, plain, by_layer) -> list[float]:
  """`scale` of every layer's mixer; 0 is the usual 1 / sqrt(head_dim).

  Args:
    depth: layers.
    head_dim: width of a head.
    plain: whether scores are divided by sqrt(head_dim).
    by_layer: whether those of layer i are divided by i + 1.
  """
  if plain and not by_layer:
    return [0.0] * depth
  factor = head_dim**-0.5 if plain else 1.0
  return [factor / (i + 1 if by_layer else 1) for i in range(depth)]


def _scaling(description) -> dict[str, bool]:
  """The settings whose scales are those of the description."""
  layers = description["layers"]
  found = [base.get(layer, "mixer/scale", 0.0) for layer in layers]
  dim = description["width"] // base.get(layers[0], "mixer/heads", 1)
  for plain, by_layer in ((True, True), (False, True), (False, False)):
    if found == _scales(len(layers), dim, plain, by_layer):
      break
  else:  # the usual one, or one that the class has not
    plain, by_layer = True, False
  return {
    "scale_attn_weights": plain,
    "scale_attn_by_inverse_layer_idx": by_layer,
  }


def _heads(settings, found) -> dict:
  dropout = settings.get("classifier_dropout", 0.1)
  for tensor in ("score.weight", "classifier.weight"):
    if found.has(tensor):
      role = base.classifier_role(settings, tensor == "score.weight")
      pooler = {} if role == "tag" else {"pooler": False}
      classes = found.rows(tensor)
      return {role: dict(kind=role, classes=classes, dropout=dropout, **pooler)}
  if settings.get("architectures") == [BODY]:
    return {}
  # The head has no tensor of its own, so the file does not tell.
  return {"causal_lm": dict(kind="causal_lm")}


def config(description, ids) -> dict:
  """The nearest config.json."""
  get = base.get
  return {
    "model_type": MODEL_TYPE,
    "vocab_size": description["vocab_size"],
    "n_embd": description["width"],
    "n_layer": len(description["layers"]),
    "n_head": get(description, "layers/0/mixer/heads", 1),
    "n_inner": get(description, "layers/0/feedforward/hidden", 1),
    "n_positions": get(description, "positions/max_length", 1),
    "activation_function": settings_lib.activation(
      get(description, "layers/0/feedforward/activation", "gelu_tanh")
    )
    or "gelu_new",
    **_scaling(description),
    "layer_norm_epsilon": get(description, "norm/epsilon", 1e-5),
    "embd_pdrop": description["dropout"],
    "resid_pdrop": get(description, "layers/0/block/dropout", 0.0),
    "attn_pdrop": get(description, "layers/0/mixer/dropout", 0.0),
    "pad_token_id": ids.get("pad"),
    "bos_token_id": ids.get("bos"),
    "eos_token_id": ids.get("eos"),
    "tie_word_embeddings": True,
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  alone = {
    "causal_lm": "GPT2LMHeadModel",
    "classify": "GPT2ForSequenceClassification",
    "regress": "GPT2ForSequenceClassification",
    "tag": "GPT2ForTokenClassification",
  }
  return {role: alone[role] for role in roles if role in alone}
