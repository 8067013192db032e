"""Any other model of ours: a folder that carries its own PyTorch code.

The files of `exported/` are copied beside the weights and build the model from
the description kept in config.json, so `transformers` loads it with
`trust_remote_code=True`. MosaicBERT, which transformers has no class for, and
the models of `make demo` go this way.
"""

from jaxlm.errors import UserError
from jaxlm.interop import description as description_lib
from jaxlm.interop.names import Leaf, linear, norm, repeated

MODEL_TYPE = "jaxlm"
PREFIX = "model."
BODY = "JaxlmModel"
TIED = ()
BUFFERS = r"$^"  # it has none
FORMAT = 1
CODE = ("modeling_jaxlm.py", "layers_jaxlm.py")

_CLASSES = {
  "masked_lm": "JaxlmForMaskedLM",
  "causal_lm": "JaxlmForCausalLM",
  "next_sentence": "JaxlmForNextSentencePrediction",
  "classify": "JaxlmForSequenceClassification",
  "regress": "JaxlmForSequenceClassification",
  "tag": "JaxlmForTokenClassification",
}
AUTO = {
  "masked_lm": "AutoModelForMaskedLM",
  "causal_lm": "AutoModelForCausalLM",
  "seq2seq_lm": "AutoModelForSeq2SeqLM",
  "replaced_token": "AutoModelForPreTraining",
  "next_sentence": "AutoModelForNextSentencePrediction",
  "classify": "AutoModelForSequenceClassification",
  "regress": "AutoModelForSequenceClassification",
  "tag": "AutoModelForTokenClassification",
}
# The fields that the PyTorch code reads; another one must be at its default.
_BLOCK = {"dropout", "feedforward_dropout"}
_SENTENCE = {
  "classes",
  "pooler",
  "pooler_activation",
  "pooler_bias",
  "pooler_norm",
  "norm",
  "dropout",
  "input_dropout",
}
READS = {
  "embeddings": {"token": {"types"}, "factorized": {"types", "table_width"}},
  "positions": {
    "learned": {"max_length", "offset"},
    "sinusoidal": {"theta"},
    "alibi": {"heads"},
    "relative_buckets": {"heads", "buckets", "max_distance", "bidirectional"},
    "rotary": {"theta"},
    "none": set(),
  },
  "norm": {"layer_norm": {"epsilon", "use_bias"}, "rms_norm": {"epsilon"}},
  "block": {"pre_norm": _BLOCK | {"skip_mixer_norm"}, "post_norm": _BLOCK},
  "mixer": {
    "attention": {
      "heads",
      "head_dim",
      "key_heads",
      "window",
      "causal",
      "use_bias",
      "dropout",
      "positions",
    }
  },
  "feedforward": {
    "mlp": {"hidden", "activation", "use_bias"},
    "gated": {
      "hidden",
      "activation",
      "input_bias",
      "output_bias",
      "dropout",
    },
  },
  "head": {
    "masked_lm": {"norm", "activation", "use_bias", "output_bias"},
    "causal_lm": {"tied"},
    "classify": _SENTENCE,
    "regress": _SENTENCE,
    "tag": _SENTENCE - {"input_dropout"},
  },
}


def leaves(description) -> list[Leaf]:
  """The table of names."""
  ours, theirs = "stack/layers_{i}", "model.layers.{i}"
  layer = [
    leaf
    for name in (
      *(f"mixer/{n}" for n in ("query", "key", "value", "output")),
      *(f"feedforward/{n}" for n in ("input", "gate", "up", "output")),
    )
    for leaf in linear(f"{ours}/{name}", f"{theirs}.{name.replace('/', '.')}")
  ]
  for name in ("mixer_norm", "feedforward_norm"):
    layer += norm(f"{ours}/{name}", f"{theirs}.{name}")
  table = [
    Leaf("embeddings/table", "model.embeddings.table"),
    Leaf("embeddings/type_table", "model.embeddings.type_table"),
    *linear("embeddings/projection", "model.embeddings.projection"),
    Leaf("positions/table", "model.positions.table"),
    *norm("input_norm", "model.input_norm"),
    *norm("final_norm", "model.final_norm"),
    *repeated(layer, len(description["layers"])),
    *linear("heads_masked_lm/transform", "masked_lm.transform"),
    *norm("heads_masked_lm/norm", "masked_lm.norm"),
    Leaf("heads_masked_lm/output_bias", "masked_lm.output_bias"),
    Leaf("heads_causal_lm/table", "causal_lm.table"),
  ]
  for head in ("next_sentence", "classify", "regress", "tag"):
    table += linear(f"heads_{head}/pooler", f"{head}.pooler")
    table += norm(f"heads_{head}/pooler_norm", f"{head}.pooler_norm")
    table += linear(f"heads_{head}/output", f"{head}.output")
  return table


def model_spec(settings, found) -> dict:
  """The spec that one of our folders describes."""
  held = settings.get("model")
  if settings.get("format") != FORMAT or not isinstance(held, dict):
    raise UserError(
      f"'{settings.path}': format is {settings.get('format')!r}; this jaxlm "
      f"reads format {FORMAT} with the model's description under 'model'."
    )
  # A class of transformers saves the heads that it has.
  heads = {
    role: head
    for role, head in held["heads"].items()
    if role == "causal_lm" or found.any(f"{role}.")
  }
  return description_lib.spec_of({**held, "heads": heads})


def config(description, ids) -> dict:
  """The config.json, which keeps the whole description.

  Raises:
    ValueError: a part that the PyTorch code does not compute.
  """
  check(description)
  heads = tuple(description["heads"])
  classes = {AUTO[role]: f"modeling_jaxlm.{_CLASSES[role]}" for role in heads}
  first = description["layers"][0]
  return {
    "model_type": MODEL_TYPE,
    "format": FORMAT,
    "auto_map": {
      "AutoConfig": "modeling_jaxlm.JaxlmConfig",
      "AutoModel": "modeling_jaxlm.JaxlmModel",
      **classes,
    },
    "model": description,
    "vocab_size": description["vocab_size"],
    "hidden_size": description["width"],
    "num_hidden_layers": len(description["layers"]),
    "num_attention_heads": first["mixer"]["heads"],
    "intermediate_size": first["feedforward"]["hidden"],
    **{f"{role}_token_id": index for role, index in ids.items()},
  }


def check(description) -> None:
  """Whether the PyTorch code computes all that a description says.

  Raises:
    ValueError: it does not; the text names the part and the reason.
  """
  if "sharing" in description:
    raise ValueError(
      "model.stack is 'shared', which has no PyTorch form here: it keeps "
      "every layer's own parameters"
    )
  parts = [
    ("embeddings", "model.embeddings", description["embeddings"]),
    ("positions", "model.positions", description["positions"]),
    ("norm", "model.norm", description["norm"]),
  ]
  for i, layer in enumerate(description["layers"]):
    for family, part in layer.items():
      parts.append((family, f"layer {i}, {family}", part))
    held = layer["mixer"].get("positions")
    if held:
      parts.append(("positions", f"layer {i}, mixer.positions", held))
  for name, head in description["heads"].items():
    parts.append(("head", f"model.heads.{name}", head))
  for family, where, part in parts:
    _check_part(family, where, part)


def _check_part(family, where, part):
  reads = READS[family].get(part["kind"])
  if reads is None:
    raise ValueError(
      f"{where} is of kind '{part['kind']}', which has no PyTorch form here "
      f"(there are: {', '.join(READS[family])})"
    )
  for name, value in part.items():
    if name not in reads and name != "kind" and value:
      raise ValueError(
        f"{where}: the PyTorch form of '{part['kind']}' has no {name} "
        f"(it is {value!r})"
      )


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  return {role: _CLASSES[role] for role in roles}
