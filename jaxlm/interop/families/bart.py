"""BART (arXiv:1910.13461) as transformers keeps it."""

from jaxlm.interop import settings as settings_lib
from jaxlm.interop.families import base
from jaxlm.interop.names import Leaf, linear, norm, repeated

MODEL_TYPE = "bart"
PREFIX = "model."
BODY = "BartModel"
TOWERS = True
_COPIES = (
  "model.encoder.embed_tokens.weight",
  "model.decoder.embed_tokens.weight",
)
TIED = (*_COPIES, "lm_head.weight")
BUFFERS = r"\.version$|final_logits_bias$"
OFFSET = 2  # rows of the position table that nothing reads
_MAPS = dict(query="q_proj", key="k_proj", value="v_proj", output="out_proj")


def leaves(description) -> list[Leaf]:
  """The table of names."""
  table = [
    Leaf("embeddings/table", "model.shared.weight", aliases=_COPIES),
    Leaf("heads_seq2seq_lm/output_bias", "final_logits_bias"),
  ]
  for name, tower in description["towers"].items():
    theirs = f"model.{name}"
    table += [
      Leaf(f"{name}/positions/table", f"{theirs}.embed_positions.weight"),
      *norm(f"{name}/input_norm", f"{theirs}.layernorm_embedding"),
      *repeated(_layer(name), len(tower["layers"])),
    ]
  return table


def _layer(tower) -> list[Leaf]:
  ours = f"{tower}/stack/layers_{{i}}"
  theirs = f"model.{tower}.layers.{{i}}"
  made = _attention(f"{ours}/mixer", f"{theirs}.self_attn")
  if tower == "decoder":
    made += _attention(f"{ours}/cross", f"{theirs}.encoder_attn")
  return [
    *made,
    *linear(f"{ours}/feedforward/input", f"{theirs}.fc1"),
    *linear(f"{ours}/feedforward/output", f"{theirs}.fc2"),
    *norm(f"{ours}/feedforward_norm", f"{theirs}.final_layer_norm"),
  ]


def _attention(ours, theirs) -> list[Leaf]:
  maps = [
    leaf
    for mine, name in _MAPS.items()
    for leaf in linear(f"{ours}/{mine}", f"{theirs}.{name}")
  ]
  return [*maps, *norm(f"{ours}_norm", f"{theirs}_layer_norm")]


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  settings.only("is_encoder_decoder", True, default=True)
  settings.only("tie_word_embeddings", True, default=True)
  settings.only("encoder_layerdrop", 0.0, default=0.0)
  settings.only("decoder_layerdrop", 0.0, default=0.0)
  scaled = settings.only("scale_embedding", False, True, default=False)
  shared = dict(
    width=settings.size("d_model"),
    dropout=settings.get("dropout", 0.1),
    # torch's default; the class has no setting for it.
    norm=dict(kind="layer_norm", epsilon=1e-5),
    initializer=dict(std=settings.get("init_std", 0.02)),
  )
  spec = dict(
    kind="encoder_decoder",
    **shared,
    vocab_size=settings.size("vocab_size"),
    embeddings=dict(kind="scaled_token" if scaled else "token"),
    towers={
      name: {**_tower(settings, name), **shared}
      for name in ("encoder", "decoder")
    },
  )
  if settings.get("architectures") == [BODY]:
    return {**spec, "heads": {}}
  biased = found.has("final_logits_bias")
  head = dict(kind="seq2seq_lm", output_bias=biased)
  return {**spec, "heads": {"seq2seq_lm": head}}


def _tower(settings, name) -> dict:
  decodes = name == "decoder"
  attention = dict(
    heads=settings.size(f"{name}_attention_heads"),
    dropout=settings.get("attention_dropout", 0.0),
  )
  layer = dict(
    block=dict(kind="post_norm_cross" if decodes else "post_norm"),
    mixer=dict(kind="attention", causal=decodes, **attention),
    feedforward=dict(
      kind="mlp",
      hidden=settings.size(f"{name}_ffn_dim"),
      activation=settings.activation("activation_function", "gelu"),
      dropout=settings.get("activation_dropout", 0.0),
    ),
  )
  if decodes:
    layer["cross"] = dict(kind="cross_attention", **attention)
  return dict(
    kind=name,
    positions=dict(
      kind="learned",
      max_length=settings.size("max_position_embeddings"),
      offset=OFFSET,
    ),
    input_norm=True,
    layers=dict(layer=layer),
    order=("layer",),
    depth=settings.size(f"{name}_layers"),
    stack=dict(kind="scan"),
  )


def config(description, ids) -> dict:
  """The nearest config.json."""
  get = base.get
  layer = "towers/encoder/layers/0"
  sizes = {}
  for name in ("encoder", "decoder"):
    part = f"towers/{name}/layers"
    sizes |= {
      f"{name}_layers": len(get(description, part)),
      f"{name}_attention_heads": get(description, f"{part}/0/mixer/heads", 1),
      f"{name}_ffn_dim": get(description, f"{part}/0/feedforward/hidden", 1),
    }
  return {
    "model_type": MODEL_TYPE,
    "vocab_size": description["vocab_size"],
    "d_model": description["width"],
    **sizes,
    "activation_function": settings_lib.activation(
      get(description, f"{layer}/feedforward/activation", "gelu")
    )
    or "gelu",
    "max_position_embeddings": get(
      description, "towers/encoder/positions/max_length", 1
    ),
    "dropout": description["dropout"],
    "attention_dropout": get(description, f"{layer}/mixer/dropout", 0.0),
    "activation_dropout": get(description, f"{layer}/feedforward/dropout", 0.0),
    "scale_embedding": get(description, "embeddings/kind") == "scaled_token",
    "is_encoder_decoder": True,
    "tie_word_embeddings": True,
    "pad_token_id": ids.get("pad", 1),
    "bos_token_id": ids.get("bos", 0),
    "eos_token_id": ids.get("eos", 2),
    "decoder_start_token_id": ids.get("eos", 2),
    "forced_eos_token_id": ids.get("eos", 2),
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  alone = {"seq2seq_lm": "BartForConditionalGeneration"}
  return {role: alone[role] for role in roles if role in alone}
