"""DeBERTa v2 and V3 as transformers and the release keep them."""

from jaxlm.errors import UserError
from jaxlm.interop import settings as settings_lib
from jaxlm.interop.families import _deberta, base
from jaxlm.interop.names import CONVOLUTION, Leaf, linear, norm

MODEL_TYPE = "deberta-v2"
PREFIX, TIED, BUFFERS = _deberta.PREFIX, _deberta.TIED, _deberta.BUFFERS
BODY = "DebertaV2Model"
adapted = _deberta.adapted


def leaves(description) -> list[Leaf]:
  """The table of names."""
  attention = f"{PREFIX}encoder.layer.{{i}}.attention.self"
  mixer = "stack/layers_{i}/mixer"
  convolution = "stack/layers_0/convolution"
  return [
    *_deberta.body(
      description,
      [
        *linear(f"{mixer}/query", f"{attention}.query_proj"),
        *linear(f"{mixer}/key", f"{attention}.key_proj"),
        *linear(f"{mixer}/value", f"{attention}.value_proj"),
        *linear(f"{mixer}/position_key", f"{attention}.pos_key_proj"),
        *linear(f"{mixer}/position_query", f"{attention}.pos_query_proj"),
      ],
    ),
    *norm("positions/relative_norm", f"{PREFIX}encoder.LayerNorm"),
    Leaf(
      f"{convolution}_kernel",
      f"{PREFIX}encoder.conv.conv.weight",
      layout=CONVOLUTION,
    ),
    Leaf(f"{convolution}_bias", f"{PREFIX}encoder.conv.conv.bias"),
    *norm(f"{convolution}_norm", f"{PREFIX}encoder.conv.LayerNorm"),
  ]


def model_spec(settings, found) -> dict:
  """The spec that a folder describes."""
  buckets = max(settings.get("position_buckets", -1), 0)
  normed = _deberta.words(settings.get("norm_rel_ebd", "none"))
  for word in normed:
    if word not in ("none", "layer_norm"):
      raise UserError(
        f"'{settings.path}': norm_rel_ebd is {settings.get('norm_rel_ebd')!r}; "
        "jaxlm reads 'none' or 'layer_norm'."
      )
  settings.only("conv_groups", 1, default=1)
  mixer = dict(share_key=bool(settings.get("share_att_key", False)))
  return _deberta.spec(
    settings,
    found,
    buckets=buckets,
    normed="layer_norm" in normed,
    mixer=mixer,
    convolution=_convolution(settings),
  )


def _convolution(settings) -> dict | None:
  size = settings.get("conv_kernel_size", 0)
  if not size:
    return None
  return dict(
    kind="post_norm_convolution",
    kernel_size=size,
    activation=settings.activation("conv_act", "tanh"),
  )


def config(description, ids) -> dict:
  """The nearest config.json."""
  get = base.get
  convolution = "layers/0/block"
  shared = get(description, "layers/0/mixer/share_key", True)
  return {
    "model_type": MODEL_TYPE,
    **_deberta.config(description, ids),
    "position_buckets": get(description, "positions/buckets", 0) or -1,
    "norm_rel_ebd": (
      "layer_norm" if get(description, "positions/norm") else "none"
    ),
    "share_att_key": shared,
    "conv_kernel_size": get(description, f"{convolution}/kernel_size", 0),
    "conv_act": settings_lib.activation(
      get(description, f"{convolution}/activation", "tanh")
    ),
  }


def architectures(roles) -> dict[str, str]:
  """role -> class."""
  return _deberta.architectures(roles, "DebertaV2")
