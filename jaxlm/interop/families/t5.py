"""T5 v1.0 and v1.1 (arXiv:1910.10683) as transformers keeps them."""

from jaxlm.interop import settings as settings_lib
from jaxlm.interop.families import base
from jaxlm.interop.names import Leaf, linear, norm, repeated

MODEL_TYPE = "t5"
PREFIX = ""
BODY = "T5Model"
TOWERS = True
_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
TIED = (*_COPIES, "lm_head.weight")
# Old files hold a table that no layer reads.
BUFFERS = r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention"

_MAPS = dict(query="q", key="k", value="v", output="o")


def leaves(description) -> list[Leaf]:
  """The table of names."""
  table = [
    Leaf("embeddings/table", "shared.weight", aliases=_COPIES),
    Leaf("heads_seq2seq_lm/table", "lm_head.weight"),
  ]
  for name, tower in description["towers"].items():
    first = f"{name}.block.0.layer.0.SelfAttention"
    table += [
      Leaf(
        f"{name}/positions/table", f"{first}.relative_attention_bias.weight"
      ),
      *norm(f"{name}/final_norm", f"{name}.final_layer_norm"),
      *repeated(_layer(name), len(tower["layers"])),
    ]
  return table


def _layer(tower) -> list[Leaf]:
  ours = f"{tower}/stack/layers_{{i}}"
  theirs = f"{tower}.block.{{i}}.layer"
  last = 2 if tower == "decoder" else 1
  dense = f"{theirs}.{last}.DenseReluDense"
  made = _attention(f"{ours}/mixer", f"{theirs}.0", "SelfAttention")
  if tower == "decoder":
    made += _attention(f"{ours}/cross", f"{theirs}.1", "EncDecAttention")
  return [
    *made,
    *norm(f"{ours}/feedforward_norm", f"{theirs}.{last}.layer_norm"),
    *linear(f"{ours}/feedforward/input", f"{dense}.wi"),
    *linear(f"{ours}/feedforward/gate", f"{dense}.wi_0"),
    *linear(f"{ours}/feedforward/up", f"{dense}.wi_1"),
    *linear(f"{ours}/feedforward/output", f"{dense}.wo"),
  ]


def _attention(ours, theirs, name) -> list[Leaf]:
  maps = [
    leaf
    for mine, letter in _MAPS.items()
    for leaf in linear(f"{ours}/{mine}", f"{theirs}.{name}.{letter}")
  ]
  return [*maps, *norm(f"{ours}_norm", f"{theirs}.layer_norm")]


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  settings.only("is_encoder_decoder", True, default=True)
  width = settings.size("d_model")
  dropout = settings.get("dropout_rate", 0.1)
  factor = settings.get("initializer_factor", 1.0)
  shared = dict(
    width=width,
    dropout=dropout,
    norm=dict(
      kind="rms_norm", epsilon=settings.get("layer_norm_epsilon", 1e-6)
    ),
    initializer=dict(std=factor, fan_in=True, table_std=factor),
  )
  depth = settings.size("num_layers")
  depths = dict(
    encoder=depth, decoder=settings.get("num_decoder_layers") or depth
  )
  spec = dict(
    kind="encoder_decoder",
    **shared,
    vocab_size=settings.size("vocab_size"),
    embeddings=dict(kind="token"),
    output_dropout=dropout,
    towers={
      name: {**_tower(settings, name), **shared, "depth": depth}
      for name, depth in depths.items()
    },
  )
  return {**spec, "heads": _heads(settings, found)}


def _tower(settings, name) -> dict:
  decodes = name == "decoder"
  heads, dim = settings.size("num_heads"), settings.size("d_kv")
  attention = dict(
    heads=heads,
    # As a config of ours leaves it out.
    head_dim=0 if heads * dim == settings.size("d_model") else dim,
    use_bias=False,
    scale=1.0,
    dropout=settings.get("dropout_rate", 0.1),
  )
  layer = dict(
    block=dict(kind="pre_norm_cross" if decodes else "pre_norm"),
    mixer=dict(kind="attention", causal=decodes, **attention),
    feedforward=_feedforward(settings),
  )
  if decodes:
    layer["cross"] = dict(kind="cross_attention", **attention)
  return dict(
    kind=name,
    positions=dict(
      kind="relative_buckets",
      buckets=settings.get("relative_attention_num_buckets", 32),
      max_distance=settings.get("relative_attention_max_distance", 128),
      bidirectional=not decodes,
    ),
    final_norm=True,
    layers=dict(layer=layer),
    order=("layer",),
    stack=dict(kind="scan"),
  )


def _feedforward(settings) -> dict:
  known = settings_lib.ACTIVATIONS
  allowed = (*known, *(f"gated-{name}" for name in known))
  said = settings.only("feed_forward_proj", *allowed, default="relu")
  gated, name = said.startswith("gated-"), said.removeprefix("gated-")
  # T5 calls the tangent form so (Shazeer's code), and only where it gates.
  activation = "gelu_tanh" if said == "gated-gelu" else known[name]
  return dict(
    kind="gated" if gated else "mlp",
    hidden=settings.size("d_ff"),
    activation=activation,
    dropout=settings.get("dropout_rate", 0.1),
    **({} if gated else {"use_bias": False}),
  )


def _heads(settings, found) -> dict:
  named = settings.get("architectures") == [BODY]
  if named and not found.has("lm_head.weight"):
    return {}
  # transformers 5 writes 'tie_word_embeddings' as true whatever it means.
  scaled = settings.get(
    "scale_decoder_outputs", settings.get("tie_word_embeddings") is not False
  )
  tied = scaled or not found.has("lm_head.weight")
  return {"seq2seq_lm": dict(kind="seq2seq_lm", tied=tied, scaled=scaled)}


def config(description, ids) -> dict:
  """The nearest config.json."""
  get = base.get
  width = description["width"]
  layer = "towers/encoder/layers/0"
  heads = get(description, f"{layer}/mixer/heads", 1)
  dim = get(description, f"{layer}/mixer/head_dim", 0) or width // heads
  scaled = get(description, "heads/seq2seq_lm/scaled", True)
  positions = "towers/encoder/positions"
  return {
    "model_type": MODEL_TYPE,
    "vocab_size": description["vocab_size"],
    "d_model": width,
    "d_kv": dim,
    "d_ff": get(description, f"{layer}/feedforward/hidden", 1),
    "num_layers": len(description["towers"]["encoder"]["layers"]),
    "num_decoder_layers": len(description["towers"]["decoder"]["layers"]),
    "num_heads": heads,
    "relative_attention_num_buckets": get(
      description, f"{positions}/buckets", 32
    ),
    "relative_attention_max_distance": get(
      description, f"{positions}/max_distance", 128
    ),
    "dropout_rate": description["dropout"],
    "layer_norm_epsilon": get(description, "towers/encoder/norm/epsilon", 1e-6),
    "feed_forward_proj": _projection(get(description, f"{layer}/feedforward")),
    "is_encoder_decoder": True,
    "tie_word_embeddings": scaled,
    "scale_decoder_outputs": scaled,
    "pad_token_id": ids.get("pad", 0),
    "eos_token_id": ids.get("eos", 1),
    "decoder_start_token_id": ids.get("pad", 0),
  }


def _projection(feedforward) -> str:
  ours = feedforward["activation"]
  if feedforward["kind"] == "gated" and ours == "gelu_tanh":
    return "gated-gelu"
  gate = "gated-" if feedforward["kind"] == "gated" else ""
  return f"{gate}{settings_lib.activation(ours) or 'relu'}"


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  alone = {"seq2seq_lm": "T5ForConditionalGeneration"}
  return {role: alone[role] for role in roles if role in alone}
