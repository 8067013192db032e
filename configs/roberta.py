"""RoBERTa (Liu et al., arXiv:1907.11692): BERT trained better.

  jaxlm train --config=roberta:base --config.data.files='corpus/*.txt' \
      --workdir=runs/roberta

Dynamic masking, no next sentence, byte-level BPE, full rows. Published: 500k
steps of 8192 rows of 512 tokens on 160 GB of text. `tiny` is for tests.
"""

from configs import common

# layers, width, heads, feed-forward, vocabulary, length
SIZES = {
  "tiny": (2, 32, 2, 64, 512, 64),
  "base": (12, 768, 12, 3072, 50_265, 512),
  "large": (24, 1024, 16, 4096, 50_265, 512),
}


def get_config(variant: str = "base"):
  """RoBERTa at a published size, or `tiny`."""
  depth, width, heads, hidden, vocab, length = common.size(SIZES, variant)
  config = common.base()
  config.steps = 500_000
  config.batch_size = 8192
  config.microbatches = 32
  config.clip_norm = 0.0
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
    embeddings=dict(kind="token", types=1),
    positions=dict(kind="learned", max_length=512, offset=2),
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
    initializer=dict(std=0.02, truncated=True),
  )
  config.optimizer = dict(
    kind="adamw",
    learning_rate=4e-4 if variant == "large" else 6e-4,
    b1=0.9,
    b2=0.98,
    eps=1e-6,
    weight_decay=0.01,
  )
  config.schedule = dict(kind="linear", warmup=24_000 / 500_000)
  return common.small(config) if variant == "tiny" else config
