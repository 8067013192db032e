"""TUPE (Ke et al., arXiv:2006.15595): untied positions in BERT.

  jaxlm train --config=tupe:base --config.data.files='corpus/*.txt' \
      --workdir=runs/tupe

`base` and `large` are TUPE-R, with relative positions; `base_a` is TUPE-A,
without. Published: 1M steps of 256 rows of 512 tokens on Wikipedia and
BooksCorpus, GLUE 84.47 (A) and 85.04 (R), and 83.33 and 83.68 after 300k, where
BERT has 82.96 (83.66 with relative positions). `tiny`, `tiny_a`: for tests.
"""

from configs import common

# layers, width, heads, feed-forward, vocabulary, length, relative buckets
SIZES = {
  "tiny": (2, 64, 4, 128, 512, 64, 32),
  "tiny_a": (2, 64, 4, 128, 512, 64, 0),
  "base": (12, 768, 12, 3072, 32_768, 512, 32),
  "base_a": (12, 768, 12, 3072, 32_768, 512, 0),
  "large": (24, 1024, 16, 4096, 32_768, 512, 32),
}


def get_config(variant: str = "base"):
  """TUPE at a published size, or `tiny`."""
  size = common.size(SIZES, variant)
  depth, width, heads, hidden, vocab, length, buckets = size
  small = variant.startswith("tiny")
  config = common.base()
  config.steps = 1_000_000
  config.batch_size = 32 if small else 256
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    corruption=dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1),
  )
  config.tokenizer = dict(kind="byte_bpe", vocab_size=vocab)
  config.model = dict(
    kind="encoder",
    width=width,
    dropout=0.1,
    embeddings=dict(kind="token"),
    positions=dict(kind="tupe", max_length=512, buckets=buckets),
    norm=dict(kind="layer_norm", epsilon=1e-5),
    input_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="post_norm"),
        mixer=dict(kind="attention", heads=heads, dropout=0.1),
        feedforward=dict(kind="mlp", hidden=hidden, activation="gelu"),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=dict(masked_lm=dict(kind="masked_lm")),
    initializer=dict(std=0.02),
  )
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
