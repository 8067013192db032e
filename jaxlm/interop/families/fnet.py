"""FNet (arXiv:2105.03824) as transformers keeps it."""

from jaxlm.interop.families import base, bert
from jaxlm.interop.names import Leaf, linear, norm
from jaxlm.interop.settings import Settings

MODEL_TYPE = "fnet"
PREFIX = "fnet."
BODY = "FNetModel"
TIED = ("cls.predictions.decoder.weight",)
BUFFERS = bert.BUFFERS + r"|dft_mat_(hidden|seq)$"
CAVEAT = (
  "this class transforms what padding holds, which counts as 0 in the trained "
  "model: rows with padding come out otherwise"
)
_ATTENTION = ("num_attention_heads", "attention_probs_dropout_prob")


def leaves(description) -> list[Leaf]:
  """The table of names."""
  table = [
    _renamed(leaf)
    for leaf in bert.encoder_leaves(PREFIX, len(description["layers"]))
  ]
  table += linear("embeddings/projection", f"{PREFIX}embeddings.projection")
  predictions = "cls.predictions"
  table += linear("heads_masked_lm/transform", f"{predictions}.transform.dense")
  table += norm("heads_masked_lm/norm", f"{predictions}.transform.LayerNorm")
  table.append(
    Leaf(
      "heads_masked_lm/output_bias",
      f"{predictions}.bias",
      aliases=(f"{predictions}.decoder.bias",),
    )
  )
  for head in ("next_sentence", "classify", "regress"):
    table += linear(f"heads_{head}/pooler", f"{PREFIX}pooler.dense")
  table += linear("heads_next_sentence/output", "cls.seq_relationship")
  for head in ("classify", "regress", "tag"):
    table += linear(f"heads_{head}/output", "classifier")
  return table


def _renamed(leaf):
  """The norm behind the mixer has a name of its own."""
  theirs = leaf.theirs.replace("attention.output.Layer", "fourier.output.Layer")
  return leaf._replace(theirs=theirs, aliases=())


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  # The class has no attention; the reader of BERT's settings asks for heads.
  values = {"num_attention_heads": 1, **settings.values}
  spec = bert.encoder_spec(Settings(settings.path, values), offset=0)
  layer = spec["layers"]["layer"]
  activation = settings.activation("hidden_act", "gelu_new")
  dropout = spec["dropout"]
  layer["block"] |= dict(dropout=0.0, feedforward_dropout=dropout)
  layer["mixer"] = dict(kind="fourier", parity=True)
  layer["feedforward"] |= dict(activation=activation)
  spec["embeddings"] |= dict(kind="factorized", table_width=spec["width"])
  heads = {}
  if found.has("cls.predictions.transform.dense.weight"):
    heads["masked_lm"] = dict(kind="masked_lm", activation=activation)
  if found.has("cls.seq_relationship.weight"):
    heads["next_sentence"] = dict(kind="classify", classes=2, dropout=0.0)
  if found.has("classifier.weight"):
    pooled = found.has(f"{PREFIX}pooler.dense.weight")
    role = base.classifier_role(settings, pooled)
    heads[role] = dict(
      kind=role, classes=found.rows("classifier.weight"), dropout=dropout
    )
  return {**spec, "heads": heads}


def config(description, ids) -> dict:
  """The nearest config.json."""
  made = {
    key: value
    for key, value in bert.encoder_config(description, ids).items()
    if key not in _ATTENTION
  }
  return {
    "model_type": MODEL_TYPE,
    **made,
    "use_tpu_fourier_optimizations": False,
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  pair = {"masked_lm", "next_sentence"} <= set(roles)
  both = "FNetForPreTraining"
  alone = {
    "masked_lm": both if pair else "FNetForMaskedLM",
    "next_sentence": both if pair else "FNetForNextSentencePrediction",
    "classify": "FNetForSequenceClassification",
    "regress": "FNetForSequenceClassification",
    "tag": "FNetForTokenClassification",
  }
  return {role: alone[role] for role in roles if role in alone}
