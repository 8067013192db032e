"""DeBERTa (v1) as transformers and the release keep it.

Query, key and value are one map whose rows take turns head by head; only
queries and values have a bias, under names of their own. All else is v2's.
"""

from jaxlm.interop.families import _deberta, base
from jaxlm.interop.names import Leaf, linear

MODEL_TYPE = "deberta"
PREFIX, TIED, BUFFERS = _deberta.PREFIX, _deberta.TIED, _deberta.BUFFERS
BODY = "DebertaModel"
adapted = _deberta.adapted


def leaves(description) -> list[Leaf]:
  """The table of names."""
  attention = f"{PREFIX}encoder.layer.{{i}}.attention.self"
  mixer = "stack/layers_{i}/mixer"
  heads = base.get(description, "layers/0/mixer/heads", 1)
  fused = [
    Leaf(
      f"{mixer}/{name}/kernel",
      f"{attention}.in_proj.weight",
      transpose=True,
      part=part,
      groups=heads,
    )
    for name, part in (("query", (0, 3)), ("key", (1, 3)), ("value", (2, 3)))
  ]
  return _deberta.body(
    description,
    [
      *fused,
      Leaf(f"{mixer}/query/bias", f"{attention}.q_bias"),
      Leaf(f"{mixer}/value/bias", f"{attention}.v_bias"),
      *linear(f"{mixer}/position_key", f"{attention}.pos_proj"),
      *linear(f"{mixer}/position_query", f"{attention}.pos_q_proj"),
    ],
  )


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  mixer = dict(share_key=False, key_bias=False)
  return _deberta.spec(settings, found, buckets=0, normed=False, mixer=mixer)


def config(description, ids) -> dict:
  """The nearest config.json."""
  return {
    "model_type": MODEL_TYPE,
    **_deberta.config(description, ids),
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  return _deberta.architectures(roles, "Deberta")
