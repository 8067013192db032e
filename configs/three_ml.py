"""Mask more and mask later (3ML; Liao et al., arXiv:2211.04898).

  jaxlm train --config=three_ml:base --config.data.files='corpus/*.txt' \
      --workdir=runs/three_ml

RoBERTa whose encoder runs on visible tokens alone, half of the row; masked
ones join a decoder of two layers, which is dropped afterwards: fine-tuning
(`--config.init_from=runs/three_ml`) and the export take the encoder. With
`cross`, the decoder runs on the places to predict and looks at the encoder.
Published: RoBERTa's GLUE for 78% (base) and 68% (large) of its compute. No
code was released: depth and width of the decoder are our choice. `tiny` and
`tiny_cross` are for tests.
"""

from configs import common, roberta

# RoBERTa's size, depth of encoder and decoder, whether the decoder crosses
SIZES = {
  "tiny": ("tiny", 2, 1, False),
  "tiny_cross": ("tiny", 2, 1, True),
  "base": ("base", 12, 2, False),
  "base_cross": ("base", 12, 2, True),
  "large": ("large", 24, 2, False),
}


def get_config(variant: str = "base"):
  """3ML on RoBERTa, at a published size or tiny."""
  size, depth, decoder_depth, crosses = common.size(SIZES, variant)
  config = roberta.get_config(size)
  config.data.corruption = dict(
    kind="visible_masking", rate=0.5, mask=0.8, random=0.1, keep=0.1
  )
  plain = config.model.to_dict()
  embeddings, heads = plain.pop("embeddings"), plain.pop("heads")
  encoder = plain | dict(depth=depth)
  config.model = dict(
    kind="visible_encoder",
    width=plain["width"],
    embeddings=embeddings,
    towers=dict(
      encoder=encoder, decoder=decoder(encoder, decoder_depth, crosses)
    ),
    heads=heads,
    norm=plain["norm"],
    initializer=plain["initializer"],
  )
  if size == "tiny":
    _small(config)
  return config


def decoder(encoder: dict, depth: int, crosses: bool) -> dict:
  """Layers as the encoder's; the input has its positions already."""
  layer = dict(encoder["layers"]["layer"])
  if crosses:
    layer["block"] = dict(kind="post_norm_cross")
    layer["cross"] = dict(layer["mixer"], kind="cross_attention")
  changes = dict(
    positions=dict(kind="none"),
    input_norm=False,
    layers=dict(layer=layer),
    depth=depth,
  )
  return encoder | changes


def _small(config):
  """What so narrow a model needs to learn within 300 steps."""
  config.steps = 300
  config.tokenizer.vocab_size = 1024
  common.small(config)
