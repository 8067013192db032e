"""BART (Lewis et al., arXiv:1910.13461): an encoder-decoder that denoises.

  jaxlm train --config=bart:base --config.data.files='corpus/*.txt' \
      --workdir=runs/bart

Published: 500k steps of 8,000 rows for the large model, with text infilling
(30% of the words, in spans of Poisson length 3 that become one mask) and all
sentences of a document permuted. Feed-forward dropout and rates are those of
fairseq. `tiny` is for tests.
"""

from configs import common

# encoder and decoder layers, width, heads, vocabulary, length
SIZES = {
  "tiny": (2, 64, 4, 512, 64),
  "base": (6, 768, 12, 50_265, 512),
  "large": (12, 1024, 16, 50_265, 512),
}


def get_config(variant: str = "base"):
  """BART at a published size, or `tiny`."""
  depth, width, heads, vocab, length = common.size(SIZES, variant)
  config = common.base()
  config.steps = 500_000
  config.batch_size = 16 if variant == "tiny" else 256
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="blocks"),
    corruption=dict(kind="infilling", rate=0.3, mean_span=3.0, permute=1.0),
  )
  config.tokenizer = dict(kind="byte_bpe", vocab_size=vocab)
  shared = dict(
    width=width,
    dropout=0.1,
    norm=dict(kind="layer_norm", epsilon=1e-5),
    initializer=dict(std=0.02),
  )
  config.model = dict(
    kind="encoder_decoder",
    **shared,
    embeddings=dict(kind="token"),
    towers=dict(
      encoder=_tower("encoder", shared, depth, heads),
      decoder=_tower("decoder", shared, depth, heads),
    ),
    heads=dict(seq2seq_lm=dict(kind="seq2seq_lm")),
  )
  config.objective = dict(kind="seq2seq")
  config.optimizer = dict(
    kind="adamw",
    learning_rate=3e-3 if variant == "tiny" else 4e-4,
    b1=0.9,
    b2=0.98,
    eps=1e-6,
    weight_decay=0.01,
  )
  config.schedule = dict(kind="linear", warmup=0.02)
  return config


def _tower(kind, shared, depth, heads):
  decodes = kind == "decoder"
  layer = dict(
    block=dict(kind="post_norm_cross" if decodes else "post_norm"),
    mixer=dict(kind="attention", heads=heads, causal=decodes, dropout=0.1),
    feedforward=dict(
      kind="mlp", hidden=4 * shared["width"], activation="gelu", dropout=0.1
    ),
  )
  if decodes:
    layer["cross"] = dict(kind="cross_attention", heads=heads, dropout=0.1)
  return dict(
    kind=kind,
    **shared,
    positions=dict(kind="learned", max_length=1024, offset=2),
    input_norm=True,
    layers=dict(layer=layer),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
  )
