"""DeBERTa (arXiv:2006.03654), v2, and the encoders of V3 (arXiv:2111.09543).

  jaxlm train --config=deberta:v3_base --config.data.files='corpus/*.txt' \
      --workdir=runs/deberta

Masked LM with the enhanced mask decoder; V3's own pre-training, by replaced
tokens, has a config of its own. v1 has a row for each relative distance and
maps of their own for them; v2 and V3 share buckets of distances and the maps
of the contents; v2 has a convolution beside its first layer. The release masks
up to three words in a row, this config whole words. Published: 1M steps of 256
rows of 512 tokens, V3 large GLUE 91.37. `tiny`, `tiny_v1` and `tiny_v3` are
for tests.
"""

from configs import common

# version, layers, width, heads, feed-forward, vocabulary, length
SIZES = {
  "tiny": ("v2", 2, 64, 4, 128, 512, 64),
  "tiny_v1": ("v1", 2, 64, 4, 128, 512, 64),
  "tiny_v3": ("v3", 2, 64, 4, 128, 512, 64),
  "v1_base": ("v1", 12, 768, 12, 3072, 50_265, 512),
  "v1_large": ("v1", 24, 1024, 16, 4096, 50_265, 512),
  "v1_xlarge": ("v1", 48, 1024, 16, 4096, 50_265, 512),
  "v2_xlarge": ("v2", 24, 1536, 24, 6144, 128_100, 512),
  "v2_xxlarge": ("v2", 48, 1536, 24, 6144, 128_100, 512),
  "v3_xsmall": ("v3", 12, 384, 6, 1536, 128_100, 512),
  "v3_small": ("v3", 6, 768, 12, 3072, 128_100, 512),
  "v3_base": ("v3", 12, 768, 12, 3072, 128_100, 512),
  "v3_large": ("v3", 24, 1024, 16, 4096, 128_100, 512),
}
NORM = dict(kind="layer_norm", epsilon=1e-7)


def get_config(variant: str = "v3_base"):
  """DeBERTa at a published size, or `tiny`."""
  size = common.size(SIZES, variant)
  version, depth, width, heads, hidden, vocab, length = size
  small = variant.startswith("tiny")
  config = common.base()
  config.steps = 1_000_000
  config.batch_size = 32 if small else 256
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    corruption=dict(
      kind="masking",
      rate=0.15,
      mask=0.8,
      random=0.1,
      keep=0.1,
      unit=dict(kind="whole_word"),
    ),
  )
  tokenizer = "byte_bpe" if version == "v1" else "unigram"
  config.tokenizer = dict(kind=tokenizer, vocab_size=vocab)
  config.model = model(version, depth, width, heads, hidden)
  config.optimizer = dict(
    kind="adamw",
    learning_rate=2e-3 if small else 1e-4,
    b1=0.9,
    b2=0.999,
    eps=1e-6,
    weight_decay=0.01,
  )
  config.schedule = dict(kind="linear", warmup=0.1 if small else 0.01)
  return config


def model(version, depth, width, heads, hidden):
  """`config.model`: the encoder of a version with its mask decoder."""
  layer = dict(
    block=dict(kind="post_norm"),
    mixer=dict(
      kind="disentangled_attention",
      heads=heads,
      dropout=0.1,
      position_dropout=0.1,
      share_key=version != "v1",
      key_bias=version != "v1",
    ),
    feedforward=dict(kind="mlp", hidden=hidden, activation="gelu"),
  )
  # The decoder runs the last layer by itself: it has a name of its own.
  layers, first = dict(layer=layer, last=layer), "layer"
  if version == "v2":
    first = "first"
    block = dict(kind="post_norm_convolution", activation="gelu")
    layers["first"] = {**layer, "block": block}
  order = (first, *("layer",) * (depth - 2), "last")
  positions = dict(kind="disentangled", max_distance=512, max_length=512)
  if version == "v1":
    positions["buckets"] = 0
  else:
    positions |= dict(buckets=256, norm=NORM)
  return dict(
    kind="mask_decoding_encoder",
    width=width,
    dropout=0.1,
    embeddings=dict(kind="token"),
    positions=positions,
    norm=NORM,
    input_norm=True,
    layers={name: layers[name] for name in dict.fromkeys(order)},
    order=order,
    stack=dict(kind="scan", remat=False),
    heads=dict(masked_lm=dict(kind="masked_lm")),
    initializer=dict(std=0.02),
  )
