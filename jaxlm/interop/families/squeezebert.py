"""SqueezeBERT (arXiv:2006.11316) as transformers keeps it.

Its dense maps are convolutions of one tap, [out, in / groups, 1].
"""

from jaxlm.errors import UserError
from jaxlm.interop.families import base, bert
from jaxlm.interop.names import POINTWISE, Leaf, grouped, linear, norm, repeated

MODEL_TYPE = "squeezebert"
PREFIX = "transformer."
BODY = "SqueezeBertModel"
TIED = ("cls.predictions.decoder.weight",)
BUFFERS = bert.BUFFERS


def leaves(description) -> list[Leaf]:
  """The table of names."""
  depth = len(description["layers"])
  table = [
    leaf
    for leaf in bert.encoder_leaves(PREFIX, depth)
    if not leaf.ours.startswith("stack/")
  ]
  table += repeated(_layer(description), depth)
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
  for head in ("classify", "regress"):
    table += linear(f"heads_{head}/pooler", f"{PREFIX}pooler.dense")
  for head in ("classify", "regress", "tag"):
    table += linear(f"heads_{head}/output", "classifier")
  return table


def _layer(description) -> list[Leaf]:
  ours, theirs = "stack/layers_{i}", f"{PREFIX}encoder.layers.{{i}}"
  groups, output, inner = _groups(description)
  return [
    *_map(f"{ours}/mixer/query", f"{theirs}.attention.query", groups),
    *_map(f"{ours}/mixer/key", f"{theirs}.attention.key", groups),
    *_map(f"{ours}/mixer/value", f"{theirs}.attention.value", groups),
    *_map(f"{ours}/mixer/output", f"{theirs}.post_attention.conv1d", output),
    *norm(f"{ours}/mixer_norm", f"{theirs}.post_attention.layernorm"),
    *_map(f"{ours}/feedforward/input", f"{theirs}.intermediate.conv1d", inner),
    *_map(f"{ours}/feedforward/output", f"{theirs}.output.conv1d", inner),
    *norm(f"{ours}/feedforward_norm", f"{theirs}.output.layernorm"),
  ]


def _map(ours, theirs, groups) -> list[Leaf]:
  layout = POINTWISE if groups is None else grouped(groups)
  return [
    Leaf(f"{ours}/kernel", f"{theirs}.weight", layout=layout),
    Leaf(f"{ours}/bias", f"{theirs}.bias"),
  ]


def _groups(description):
  """Blocks of queries, of the output, of the feed-forward; None: plain maps.

  A mixer's map in one block is a plain one, a grouped feed-forward's is not.
  """
  mixer = base.get(description, "layers/0/mixer", {})
  groups, output = mixer.get("groups", 1), mixer.get("output_groups", 1)
  inner = base.get(description, "layers/0/feedforward/groups")
  return (groups if groups > 1 else None, output if output > 1 else None, inner)


def model_spec(settings, found) -> dict:
  """The spec that a folder describes.

  Raises:
    UserError: maps of one kind in different numbers of groups.
  """
  spec = bert.encoder_spec(settings, offset=0)
  settings.only("embedding_size", spec["width"], default=768)
  layer = spec["layers"]["layer"]
  layer["mixer"] |= dict(
    kind="grouped_attention",
    groups=_same(settings, "q_groups", "k_groups", "v_groups"),
    output_groups=settings.get("post_attention_groups", 1),
  )
  inner = _same(settings, "intermediate_groups", "output_groups")
  if inner > 1:
    layer["feedforward"] |= dict(kind="grouped_mlp", groups=inner)
  heads = {}
  dropout = settings.get("hidden_dropout_prob", 0.1)
  if found.has("cls.predictions.transform.dense.weight"):
    activation = layer["feedforward"]["activation"]
    heads["masked_lm"] = dict(kind="masked_lm", activation=activation)
  if found.has("classifier.weight"):
    pooled = found.has(f"{PREFIX}pooler.dense.weight")
    role = base.classifier_role(settings, pooled)
    heads[role] = dict(
      kind=role, classes=found.rows("classifier.weight"), dropout=dropout
    )
  return {**spec, "heads": heads}


def _same(settings, *keys) -> int:
  counts = {key: settings.get(key, 4) for key in keys}
  if len(set(counts.values())) > 1:
    shown = ", ".join(f"{key} {count}" for key, count in counts.items())
    raise UserError(
      f"'{settings.path}': {shown}; jaxlm reads one number for all of them."
    )
  return counts[keys[0]]


def config(description, ids) -> dict:
  """The nearest config.json."""
  groups, output, inner = (count or 1 for count in _groups(description))
  return {
    "model_type": MODEL_TYPE,
    **bert.encoder_config(description, ids),
    "embedding_size": description["width"],
    "q_groups": groups,
    "k_groups": groups,
    "v_groups": groups,
    "post_attention_groups": output,
    "intermediate_groups": inner,
    "output_groups": inner,
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  alone = {
    "masked_lm": "SqueezeBertForMaskedLM",
    "classify": "SqueezeBertForSequenceClassification",
    "regress": "SqueezeBertForSequenceClassification",
    "tag": "SqueezeBertForTokenClassification",
  }
  return {role: alone[role] for role in roles if role in alone}
