"""DeBERTaV3's pre-training (He et al., arXiv:2111.09543): replaced tokens.

  jaxlm train --config=deberta_v3_rtd:base \
      --config.data.files='corpus/*.txt' --workdir=runs/deberta_v3

Two DeBERTa towers; the generator has half the layers and the mask decoder.
Token tables are shared with disentangled gradients, and each tower has an
optimizer of its own. Masks single tokens, all as [MASK]. Published: V3 large
GLUE 91.37, +1.91 to ELECTRA large. `tiny` is for tests.
"""

from configs import common, deberta

SIZES = {
  "tiny": "tiny_v3",
  "xsmall": "v3_xsmall",
  "small": "v3_small",
  "base": "v3_base",
  "large": "v3_large",
}


def get_config(variant: str = "base"):
  """DeBERTaV3 at a published size, or `tiny`."""
  beneath = common.size(SIZES, variant)
  config = deberta.get_config(beneath)
  version, depth, *sizes = deberta.SIZES[beneath][:5]
  depth = 4 if variant == "tiny" else depth
  config.data.corruption = dict(
    kind="masking", rate=0.15, mask=1.0, random=0.0, keep=0.0
  )
  config.model = dict(
    kind="two_tower",
    sharing="gradient_disentangled",
    towers=dict(
      generator=deberta.model(version, depth // 2, *sizes),
      discriminator=_discriminator(version, depth, *sizes),
    ),
  )
  config.objective = dict(kind="replaced_token_detection", weight=50.0)
  tower = dict(config.optimizer)
  rate = tower.pop("learning_rate")
  config.optimizer = dict(
    kind="groups",
    learning_rate=rate,
    groups=dict(
      generator=dict(paths="^generator/", optimizer=tower),
      discriminator=dict(paths="^discriminator/", optimizer=tower),
    ),
  )
  return config


def _discriminator(version, depth, *sizes):
  """The plain encoder, which knows relative positions alone."""
  spec = deberta.model(version, depth, *sizes)
  del spec["positions"]["max_length"]
  head = dict(kind="replaced_token_in_context")
  return spec | dict(
    kind="encoder",
    layers=dict(layer=spec["layers"]["layer"]),
    order=("layer",),
    depth=depth,
    heads=dict(replaced_token=head),
  )
